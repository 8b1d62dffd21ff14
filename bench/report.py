"""RESULTS.md from the figures."""
import os
import pathlib
import platform
import re
import subprocess
import time

import goals
import reasons
import servers

NAMES = {"floor": "floor", "fastwebsockets": "fastwebsockets", "tungstenite": "tokio-tungstenite",
         "stock": "pure Lua", "drop-in": "**`resty.websocket.server`**", "messages": "**`resty.websocket`**", "callbacks": "**`serve()`**",
         "callbacks, raw": "**`serve{ raw = true }`**",
         "nchan": "nchan", "hub": "**hub**"}


def machine(quick):
    """Where and with what it was run."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", cpuinfo)
    return {"cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "date": time.strftime("%Y-%m-%d"), "quick": quick,
            "load_before": os.getloadavg()[0], "versions": versions()}


def versions():
    found = {"module": commit(), "nginx": run("nginx", "-v").rpartition("/")[2]}
    for name, package in {"ngx_lua": "libnginx-mod-http-lua", "LuaJIT": "libluajit2-5.1-2",
                          "lua-nginx-websocket": "lua-nginx-websocket", "nchan": "libnginx-mod-nchan",
                          "OpenSSL": "libssl3"}.items():
        found[name] = run("dpkg-query", "-W", "-f=${Version}", package)
    lock = (servers.BENCH / "Cargo.lock").read_text()
    for name in ("tokio-tungstenite", "fastwebsockets", "tokio"):
        match = re.search(rf'name = "{name}"\nversion = "(.*)"', lock)
        found[name] = match[1] if match else ""
    return found


def commit():
    text = run("git", "-C", servers.REPOSITORY, "describe", "--always", "--dirty")
    return text or "unknown"


def run(*command):
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def table(head, lines):
    """A Markdown table."""
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"


def number(value):
    """Three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def columns(rows):
    """Names of all servers, in the order in which they stand."""
    return list(dict.fromkeys(name for row in rows for name in row["servers"]))


def by_server(rows, first, label, figure="cpu_us", names=None):
    names = names or columns(rows)
    lines = [[label(row["row"])] + [number(row["servers"].get(n, {}).get(figure)) for n in names] for row in rows]
    return table([first] + [NAMES.get(n, n) for n in names], lines)


def document(results):
    parts = [head(results["machine"]), goal_table(results)]
    for part in (echo, tls, curve, broadcast, memory, light, connect, client, reload, syscalls, history, presence, proxy, broker):
        if results.get(part.__name__):
            parts.append(part(results[part.__name__]))
    return "\n".join(parts)


def head(m):
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items() if version)
    quick = "\n**A quick run: its figures show that everything works, and little else.**\n" if m["quick"] else ""
    return f"""# Results of `make bench`

Written by `bench/run.sh`; not to be edited by hand. {m['date']}, {m['cpu']}, {m['cores']} cores, Linux
{m['kernel']}; load before {m['load_before']:.2f}, after {m['load_after']:.2f}; {m['seconds']} s.
Versions: {versions}.
{quick}
The server has core 0 to itself, the client core 1. *CPU* is what the server's process used for a
message, in microseconds, kernel included, by its scheduler clock; medians of interleaved rounds.
Servers take at most 16 MiB a message and do not compress. *In flight* means messages sent in one
write on a connection before the client waits for all of them; no two messages are the same, and a
sample of the answers is compared. The pure library and each API of the module run in an nginx of their own.
*floor* is an epoll loop that sends back what it reads, without a protocol.

![CPU per message, beside the alternatives](results.svg)
"""


def goal_table(results):
    found = goals.all_goals(results)
    lines = []
    for goal in found:
        sign = "≥" if goal.least else "≤"
        state = {None: "not measured", True: "met", False: "**missed**"}[goal.met]
        lines.append([goal.text, f"{number(goal.value)} {goal.unit}", f"{sign} {goal.limit:g} {goal.unit}", state])
    met = sum(goal.met is True for goal in found)
    text = f"## What it must reach: {met} of {len(found)} met\n\n" + table(["goal", "measured", "limit", ""], lines)
    missed = {}
    for goal in found:
        if goal.met is False:
            reason = reasons.explain(goal.text) or "not looked into yet."
            missed.setdefault(reason, []).append(f"{goal.text} ({number(goal.value)} {goal.unit})")
    if not results.get("broadcast", {}).get("two"):
        text += "\nThe hub's broadcast rows wait for `websocket.publish`.\n"
    why = [f"- *{'; '.join(names)}*: {reason}" for reason, names in missed.items()]
    return text + ("\nWhy goals are missed, and what was tried:\n\n" + "\n".join(why) + "\n" if why else "")


# CPU per message of uWebSockets 20 as multiples of the floor's, by row, measured elsewhere: no registry has it.
UWEBSOCKETS = {(32, 100, 1): 0.99, (32, 10, 16): 1.07, (1024, 100, 1): 1.03, (1024, 10, 16): 1.33, (16384, 100, 1): 1.07,
               (16384, 10, 16): 2.09, (1 << 20, 1, 1): 1.78, (1 << 20, 100, 1): 1.39}


def beyond(rows):
    """Beside uWebSockets, which is what to reach after the goals."""
    names = [name for name in ("drop-in", "messages") if name in columns(rows)]
    lines = []
    for row in rows:
        floor = row["servers"]["floor"]["cpu_us"]
        ratios = [number(row["servers"][name]["cpu_us"] / floor) for name in names]
        lines.append([goals.label(row["row"]), number(UWEBSOCKETS[tuple(row["row"])])] + ratios)
    return ("\nThe same as multiples of the floor's, beside uWebSockets 20, which no package registry has: its multiples\n"
            "were measured on another machine of two cores. It makes no strings and resumes nobody, which tells where\n"
            "messages are small or alone.\n\n"
            + table(["echo", "uWebSockets 20"] + [NAMES[n] for n in names], lines))


def echo(rows):
    quick = ["fastwebsockets", "tungstenite", "stock", "drop-in", "messages", "callbacks"]
    names = [name for name in quick if name in columns(rows)]
    return ("## Echo\n\nCPU per message:\n\n" + by_server(rows, "echo", goals.label) + beyond(rows)
            + "\nMessages a second:\n\n" + by_server(rows, "echo", goals.label, "rate", names)
            + "\nLatency, 99th percentile, µs (from the write of a burst to its last answer):\n\n"
            + by_server(rows, "echo", goals.label, "p99_us", names))


def tls(rows):
    names = [name for name in columns(rows) if name != "stock"]
    share = [[goals.label(row["row"])] + [number(100 * row["servers"][n].get("outside", 0) or None) for n in names]
             for row in rows]
    return ("## Echo over TLS\n\nCPU per message:\n\n" + by_server(rows, "wss echo", goals.label)
            + "\nTLS records a message:\n\n" + by_server(rows, "wss echo", goals.label, "records")
            + "\nPer cent of the server's time outside OpenSSL and kernel:\n\n"
            + table(["wss echo"] + [NAMES[n] for n in names], share))


def curve(rows):
    return "## From ten to ten thousand connections\n\nCPU per message, 32 B, one in flight:\n\n" + by_server(
        rows, "connections", str)


def broadcast(found):
    text = "## Broadcast\n\nTo 1000 subscribers, 64 B, CPU per delivery:\n\n"
    text += by_server(found["rows"], "broadcast", str)
    if "two" in found:
        lines = [[name, number(line["cpu_us"]), " / ".join(map(str, line["cpu_shares"]))]
                 for name, line in found["two"].items()]
        text += "\nTwo workers:\n\n" + table(["broadcast", "CPU per delivery", "shares"], lines)
    if "topics" in found:
        lines = [[n, number(line["cpu_us"])] for n, line in found["topics"].items()]
        text += "\nBursts, by topics of a connection:\n\n" + table(["topics", "CPU per delivery"], lines)
    return text


def memory(found):
    keys = list(dict.fromkeys(k for line in found.values() for k in line if k.endswith("_kb")))
    names = {"fresh_kb": "fresh", "after_16384_kb": "after a 16 KiB message", "after_1048576_kb": "after a 1 MiB message"}
    lines = [[NAMES.get(n, n)] + [number(line.get(key)) for key in keys] for n, line in found.items()]
    count = next(iter(found.values()))["connections"]
    return (f"## Memory\n\nResident memory of the worker, KB a connection, {count} connections:\n\n"
            + table([""] + [names[key] for key in keys], lines) + "\n" + sizes())


def light(found):
    counts = list(next(iter(found.values())))
    rows = [[name] + [number(line[count]) for count in counts] for name, line in found.items()]
    return ("## Connections without a request\n\nMemory of the worker, KB an idle connection, by how many there "
            "are:\n\n" + table([""] + [f"{count} connections" for count in counts], rows))


def sizes():
    """The bounds that the build holds the structs to."""
    source = (pathlib.Path(__file__).resolve().parent.parent / "src/session/mod.rs").read_text()
    bounds = re.findall(r"assert!\(size_of::<(?:\w+::)*(\w+)>\(\) <= (\d+)\)", source)
    return ("Of it ours, bytes a connection, at most (a server's has `Session` and `State`, one that Lua carries "
            "`Carried`, a byte stream `Stream`; `Connection` is a part of `State` and `Carried`):\n\n"
            + table(["struct", "bytes"], [[f"`{name}`", size] for name, size in bounds]))


def connect(rows):
    return "## Opening and closing\n\nCPU per connection, both handshakes:\n\n" + by_server(rows, "", str)


def client(rows):
    return "## Client\n\nCPU in nginx per message sent and received back:\n\n" + by_server(
        rows, "bytes", str)


def reload(line):
    lines = [[name, line[name]["requests"], *(number(line[name][f"{q}_ms"]) for q in ("p50", "p99", "max"))]
             for name in ("before", "after")]
    return (f"## Reload\n\nNew HTTP requests while {line['connections']} connections are open "
            f"({line['failed']:g} failed), milliseconds, before and after SIGHUP:\n\n"
            + table(["", "requests", "p50", "p99", "max"], lines))


def syscalls(rows):
    lines = []
    for row in rows:
        for name, calls in row["servers"].items():
            text = ", ".join(f"{call} {number(n)}" for call, n in calls.items())
            lines.append([goals.label(row["row"]), NAMES.get(name, name), text])
    head = ["echo", "server", "calls a message"]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * 3, *lines])
    return "## System calls\n\nBy strace, apart from every other figure:\n\n" + rows + "\n"


def history(found):
    names = list(found["publish"][0]["servers"])
    resume, storm, memory = found["resume"], found["storm"], found["memory"]
    return ("## Topics that remember\n\nCPU of publishing 100 B, with all deliveries, to a topic with a history (*kept*) and to a plain one:\n\n"
            + by_server(found["publish"], "subscribers", str, names=names)
            + "\nThe same without subscribers, by topics that take turns:\n\n"
            + by_server(found["topics"], "topics", str)
            + f"\n100 messages of 100 B cost {number(resume['live'])} µs a client live, as a burst, and {number(resume['resumed'])} µs resumed.\n"
            f"{storm['clients']} clients resume 100 messages each within {number(storm['seconds'])} s: other requests take "
            f"{number(storm['p99_ms'])} ms (p99), {number(storm['max_ms'])} at most. Nginx and who asks have real-time priority then, as for the\n"
            "members below, so that other programs do not count; the output that waits for a client is not measured here.\n"
            f"A message of 100 B takes {number(memory['message'])} B of the zone, a topic {number(memory['topic'])}.\n")


def proxy(found):
    names = list(found["memory"])
    memory = table([""] + names, [["KB a pair"] + [number(found["memory"][name]) for name in names]])
    return (f"## Proxies\n\nCPU of the proxy for a message there and back, microseconds, by size, connections and messages in flight. The last column is {found['before']}.\n\n"
            + by_server(found["rows"], "", goals.label, names=names)
            + f"\nMemory of {found['pairs']} silent pairs:\n\n{memory}")


def presence(found):
    few, many = found["join_leave_us"].values()
    return (f"## Who is there\n\n{found['members']} members with 32 B of info in one worker, without join_leave: their list takes {number(found['list_us'])} µs of CPU;\n"
            f"1000 other requests a second meanwhile take {number(found['p99_ms'])} ms (p99), {number(found['max_ms'])} at most "
            f"({number(found['quiet_max_ms'])} without). Coming and going costs {number(few)} µs\n"
            f"among 100 members and {number(many)} µs among {found['members']}, handshake included.\n")


def broker(found):
    names = {"out_us": "out, at the publisher's", "in_us": "in, at the listener's", "local_us": "delivery at home, no broker",
             "local_with_us": "delivery at home, with a broker"}
    plain = table(["µs"] + ["alone", "bursts of 16"],
                  [[text] + [number(found["plain"][n][key]) for n in ("1", "16")] for key, text in names.items()])
    server = table([""] + list(found["server"]), [["µs of Redis"] + [number(n) for n in found["server"].values()]])
    runs, goes_on = found["nchan"]["cpu_us"], found["nchan"]["goes_on"]
    kinds = {"plain": "plain topics", "kept": "topics with a history", "nchan": "nchan"}
    beside = table(["µs a delivery"] + list(kinds.values()),
                   [[f"{burst} in a burst"] + [number(row[name]) for name in kinds] for burst, row in runs.items()]
                   + [["without Redis"] + ["goes on at home" if goes_on[name] else "nothing" for name in kinds]])
    late, wanted = found["latency"], found["wanted"]
    return ("## Between machines\n\nTwo nginx with a worker each over one Redis; messages of 100 B. CPU of the gateway for a plain message, beyond what one costs that stays at home\n"
            f"(the floor of one small message, received and sent, is {number(found['floor_us'])} µs):\n\n{plain}"
            f"\nCPU of Redis for a message that one machine hears, commands pipelined:\n\n{server}"
            f"\n{wanted['topics']} topics are subscribed again {number(wanted['seconds'])} s after a lost connection; the gateway has {number(wanted['bytes'])} B for each beyond its name.\n"
            f"From publishing on one machine to delivery on the other, idle: {number(late['far_us'])} µs (median); PUBLISH to a subscriber of Redis alone {number(late['bare_us'])} µs.\n"
            "\nBeside Nchan over a Redis of its own: 20 subscribers on each of two machines, CPU of Redis and both nginx for a delivery, and what becomes of a message while Redis is down:\n\n"
            + beside)
