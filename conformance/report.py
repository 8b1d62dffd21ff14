"""What the test suite's results amount to: the table by category, the faults against the target of
a style, and RESULTS.md. run.py hands over the records that suite.py wrote; a fault is a sentence.
"""

import collections
import datetime
import os
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent

# The suite judges nothing in these three; with Autobahn against itself they are the only ones that
# are not OK.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

# What the frame API leaves to be wished: it knows no compression; it hands out whole frames, so
# that bad text is seen at its frame's end; and it ends a connection on a malformed frame without
# letting its caller send a close frame.
UNCOMPRESSED = {"12", "13"}
LATE = {"6.4.3", "6.4.4"}
MALFORMED = re.compile(r"(3\..*|4\..*|2\.5|5\.[12]|7\.3\.[26])")

# Rules broken by the suite on purpose are the cases that ask for one of these codes and would not
# take a normal close in its place.
RULE_CODES = {1002, 1007, 1009}

COLUMNS = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "FAILED"]

CATEGORIES = {
    "1": "framing", "2": "pings and pongs", "3": "reserved bits", "4": "opcodes",
    "5": "fragmentation", "6": "UTF-8", "7": "close handling", "9": "limits and performance",
    "10": "miscellaneous", "12": "permessage-deflate", "13": "permessage-deflate parameters",
}

PROSE = """\
# Autobahn test suite: results

Written by `make conformance`: the suite's fuzzing client against the server roles of
[nginx.conf](nginx.conf), and its fuzzing server against the client roles, which are
in [walk.lua](walk.lua). In message style the handler is
[message_echo.lua](message_echo.lua), and every case is to be OK, with a close code on
the wire for every rule broken; proxied is the same behind `websocket_proxy`, and
inspected, without the compressed cases, behind `websocket.proxy` with an
`on_message`. In frame style it is [frame_echo.lua](frame_echo.lua)
on the drop-in modules: the same is asked, except for compression, which they lack,
for 6.4.3 and 6.4.4, where bad text is to be refused in the middle of a frame, and for
the close codes after malformed frames, which end the connection at once. The suite
judges nothing in 7.1.6, 7.13.1 and 7.13.2. [websockets_echo.lua](websockets_echo.lua)
is on a port that a program opened by itself; it knows no compression either."""


def in_order(cases):
    return sorted(cases, key=lambda case: [int(part) for part in case.split(".")])


def breaks_rule(record):
    codes = set(record["closeCodes"] or [])
    return bool(codes) and codes <= RULE_CODES


def by_category(wanted, records):
    table = collections.OrderedDict()
    for case in in_order(wanted):
        row = table.setdefault(case.split(".")[0], collections.Counter())
        row["cases"] += 1
        if case not in records:
            row["missing"] += 1
            continue
        record = records[case]
        row[record["behavior"]] += 1
        row["unclean"] += record["behaviorClose"] not in ("OK", "INFORMATIONAL")
        if breaks_rule(record):
            row["rules"] += 1
            row["named"] += record["remoteCloseCode"] in record["closeCodes"]
    return table


def lines(wanted, records):
    """The table as rows of Markdown: one for every category, and the sum."""
    table = by_category(wanted, records)
    total = sum(table.values(), collections.Counter())
    shown = [c for c in COLUMNS if total[c] or c == "OK"]
    shown += sorted(set(total) - set(COLUMNS) - {"cases", "unclean", "rules", "named", "missing"})
    if total["missing"]:
        shown.append("missing")
    rows = [["category", "cases", *shown, "close not OK", "close code / rule broken"]]
    for number, row in [*table.items(), ("all", total)]:
        rules = f"{row['named']} / {row['rules']}" if row["rules"] else ""
        name = f"{number} {CATEGORIES.get(number, '')}".strip()
        rows.append([name, row["cases"], *(row[c] for c in shown), row["unclean"], rules])
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]])

    def cell(i, value):
        return str(value).ljust(widths[i]) if i == 0 else str(value).rjust(widths[i])

    return ["| " + " | ".join(cell(i, v) for i, v in enumerate(row)) + " |" for row in rows]


def allowed(style, case):
    if case in INFORMATIONAL:
        return {"INFORMATIONAL"}
    if style in ("frame", "websockets", "tarantool") and case.split(".")[0] in UNCOMPRESSED:
        return {"OK", "UNIMPLEMENTED"}
    if style in ("frame", "tarantool") and case in LATE:
        return {"OK", "NON-STRICT"}
    return {"OK"}


def faults(style, wanted, records):
    """What keeps a run from its target, in sentences."""
    found = [] if wanted else ["no case ran"]
    for case in in_order(wanted):
        record = records.get(case)
        if not record:
            found.append(f"{case}: no result")
            continue
        behavior, close = record["behavior"], record["behaviorClose"]
        code, codes = record["remoteCloseCode"], record["closeCodes"]
        if behavior not in allowed(style, case):
            found.append(f"{case}: {behavior} ({record['result']})")
        if close != ("INFORMATIONAL" if case in INFORMATIONAL else "OK"):
            found.append(f"{case}: close {close} ({record['resultClose']}), code {code}")
        elif breaks_rule(record) and code not in codes:
            if style != "frame" or not MALFORMED.fullmatch(case):
                found.append(f"{case}: close code {code}, not {' or '.join(map(str, codes))}")
    return found


def output(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip()


def versions(nginx, suite):
    package = "libnginx-mod-http-lua"
    lua = output("dpkg-query", "-W", "-f=${Version}", package)
    commit = output("git", "-C", str(HERE), "rev-parse", "--short", "HEAD")
    return {
        "nginx": re.sub(r".*nginx/(\S+).*", r"\1", output(nginx, "-v")),
        "ngx_lua": lua if re.match(r"\d", lua) else "unknown",
        "Autobahn test suite": suite,
        "this repository": commit,
        "processor cores": os.cpu_count(),
    }


def section(run, more=""):
    """One run's part of RESULTS.md."""
    outcome = "Faults:" if run["faults"] else "Target reached."
    text = [f"## {run['title']}", "", *lines(run["wanted"], run["records"]), ""]
    text.append(f"{run['seconds']:.0f} s{more}. {outcome}")
    return text + [""] * bool(run["faults"]) + [f"- {fault}" for fault in run["faults"]]


def today():
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"


def record_some(runs, nginx):
    """Puts some roles' runs in the place of those that are in RESULTS.md, or behind them, with their own date."""
    file = HERE / "RESULTS.md"
    head, *parts = file.read_text().rstrip("\n").split("\n\n## ")
    facts = [line for line in head.splitlines() if line.startswith("- ")]
    sections = {part.split("\n")[0]: "## " + part for part in parts}
    commit = versions(nginx, None)["this repository"]
    for run in runs:
        sections[run["title"]] = "\n".join(section(run, f", {today()}, {commit}"))
    if all(re.search(r"\n\d+ s, \d{4}-", text) for text in sections.values()):
        # Nothing is left of the whole run that these were of.
        facts = [fact for fact in facts if not re.match("- (date|this repository|time):", fact)]
    facts = "\n".join(facts)
    file.write_text("\n\n".join([PROSE, facts, *sections.values()]) + "\n")


def record(runs, nginx, seconds):
    """Writes RESULTS.md from the results of run.py's run()."""
    text = [PROSE, "", f"- date: {today()}"]
    text += [f"- {name}: {value}" for name, value in versions(nginx, runs[0]["suite"]).items()]
    text.append(f"- time: {seconds:.0f} s")
    for run in runs:
        text += ["", *section(run)]
    (HERE / "RESULTS.md").write_text("\n".join(text) + "\n")
