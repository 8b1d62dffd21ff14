"""Runs the roles: starts nginx, sets processes of the suite on it (or it on them), and judges.

run.sh calls it, after it has seen to everything that is needed. Every run of a role is cut into
shares that go on at the same time, because many cases do nothing but wait.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import report

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build/conformance"
SUITE = [str(ROOT / "build/autobahn/python2"), str(ROOT / "conformance/suite.py")]
NGINX = os.environ.get("NGINX_BIN", "nginx")

ROLES = ["server-frame", "server-message", "server-proxied", "server-inspected", "server-websockets",
         "server-tarantool", "client-frame", "client-message"]
# Server styles that are no location of nginx's own ports, and the subprotocol they ask for.
OWN_PORTS = {"websockets": "echo", "tarantool": None}

PROTOCOL = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
LIMITS = ["9.1.1", "9.1.2", "9.2.2", "9.3.4", "9.4.4", "9.5.3", "9.6.3", "9.7.1", "9.8.1"]
DEFLATE = ["12.1.1", "12.1.4", "12.1.12", "12.2.3", "12.3.5", "12.4.2", "12.5.6",
           "13.1.3", "13.2.3", "13.3.4", "13.4.3", "13.5.4", "13.6.3", "13.7.5", "13.7.12"]
# Beneath TLS the frames are the same: what counts is how bytes come in and how connections end.
OVER_TLS = ["1.*", "2.*", "3.*", "5.*", "6.1.*", "6.4.*", "7.*", "9.1.*", "9.2.*", "9.5.*",
            "9.6.*", "10.*", "12.1.1", "12.1.10", "12.1.18", "13.3.10", "13.7.18"]
# Another way for messages than `proxied`, by the same codecs.
INSPECTED = [*PROTOCOL, "9.*"]
QUICK_OVER_TLS = ["1.*", "5.1", "5.19", "6.4.*", "7.1.*", "9.1.2", "9.5.3", "12.1.1"]

# The suite's server ends connections by a reset, and ngx_lua's sockets, on which the clients
# stand, log that as an error whatever lua_socket_log_errors says.
RESET, COSOCKETS = "recv() failed (104: Connection reset by peer)", "GET /walk/"

CHILDREN = []    # the suite's processes


class Trouble(Exception):
    """Something went wrong with the run itself, whatever the results are."""


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


@contextlib.contextmanager
def nginx():
    """nginx as our child; gives its plain and its TLS address, by style where that has its own."""
    port, tls_port, *own = free_ports(2 + 2 * len(OWN_PORTS))
    addresses = {None: (f"127.0.0.1:{port}", f"127.0.0.1:{tls_port}")}
    names = {"MODULE": os.environ["MODULE"], "HTTP_PORT": port, "HTTPS_PORT": tls_port}
    for style, plain, tls in zip(OWN_PORTS, own[::2], own[1::2]):
        addresses[style] = (f"127.0.0.1:{plain}", f"127.0.0.1:{tls}")
        names.update({f"{style.upper()}_PORT": plain, f"{style.upper()}_TLS_PORT": tls})
    text = (ROOT / "conformance/nginx.conf").read_text()
    (WORK / "nginx.conf").write_text(re.sub("@([A-Z_]+)@", lambda m: str(names[m[1]]), text))
    log = WORK / "nginx.log"
    with log.open("wb") as stderr:
        child = subprocess.Popen([NGINX, "-e", "stderr", "-p", f"{ROOT}/", "-c",
                                  str(WORK / "nginx.conf")], stderr=stderr)
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            if child.poll() is not None:
                raise Trouble(f"nginx did not start:\n{log.read_text()}")
            time.sleep(0.02)
        yield addresses
    finally:
        end(child)


def loud_lines():
    """What nginx logged beyond what a peer's doings are worth; a crash is an alert there."""
    text = (WORK / "nginx.log").read_text(errors="replace")
    return [line for line in text.splitlines()
            if re.search(r"\[(warn|error|crit|alert|emerg)\]", line)
            and not (RESET in line and COSOCKETS in line)]


def suite(arguments, out, **options):
    command = [*SUITE, *arguments, "--out", str(out.with_suffix(".json"))]
    with out.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(command, stderr=log, **options)
    CHILDREN.append(child)
    return child


def end(child):
    child.terminate()    # does nothing to one that has been waited for
    child.wait()


def interrupted(*_):
    """The suite's processes end, and with them the threads that wait for them; nginx comes last."""
    for child in CHILDREN:
        child.terminate()
    sys.exit(1)


def fuzz_server(url, cases, out, limit):
    """The suite's client against nginx."""
    child = suite(["client", url, *cases], out)
    try:
        status = child.wait(limit)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{out.name}: not done after {limit} s") from None
    finally:
        end(child)
    if status:
        raise Trouble(f"{out.name}: the suite ended with status {status}, see its log")


def fuzz_client(walk, tls, cases, out, limit):
    """nginx, as a client, against the suite's server."""
    if tls:
        cases = [*cases, "--key", str(WORK / "key.pem"), "--cert", str(WORK / "cert.pem")]
    child = suite(["server", *cases], out, stdout=subprocess.PIPE, text=True)
    try:
        url = child.stdout.readline().strip()
        if not url:
            raise Trouble(f"{out.name}: the suite's server did not start, see its log")
        with urllib.request.urlopen(f"{walk}?url={url}", timeout=limit) as response:
            response.read()
        if child.poll() is not None:
            raise Trouble(f"{out.name}: the suite ended with status {child.returncode}")
    except OSError as error:
        raise Trouble(f"{out.name}: {walk}: {error}") from error
    finally:
        end(child)
        child.stdout.close()


def read(files):
    wanted, records, version = [], {}, None
    for file in files:
        lines = file.read_text().splitlines() if file.exists() else []
        for line in lines:
            record = json.loads(line)
            if "cases" in record:
                wanted += record["cases"]
                version = record["suite"]
            else:
                records[record["id"]] = record
    return wanted, records, version


def run(role, tls, patterns, shares, limit, addresses):
    """One role with these cases, plain or over TLS."""
    title = f"{role}{'-tls' if tls else ''}"
    print(f"\n{title.replace('-', ', ')}", flush=True)
    folder = WORK / title
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    side, style = role.split("-")
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(shares) as pool:
        waiting = []
        for i in range(shares):
            out = folder / f"share-{i}"
            cases = ["--cases", ",".join(patterns), "--share", f"{i}/{shares}"]
            if side == "server":
                address = addresses.get(style, addresses[None])[tls]
                url = f"{'wss' if tls else 'ws'}://{address}/{style}"
                if OWN_PORTS.get(style):
                    cases += ["--protocol", OWN_PORTS[style]]
                waiting.append(pool.submit(fuzz_server, url, cases, out, limit))
            else:
                walk = f"http://{addresses[None][False]}/walk/{style}"
                waiting.append(pool.submit(fuzz_client, walk, tls, cases, out, limit))
    troubles = [str(share.exception()) for share in waiting if share.exception()]
    wanted, records, version = read(sorted(folder.glob("*.json")))
    faults = troubles + report.faults(style, wanted, records)
    return {"title": title.replace("-", ", "), "wanted": wanted, "records": records,
            "suite": version, "faults": faults, "seconds": time.monotonic() - started}


def show(result):
    print(f"  {len(result['wanted'])} cases, {result['seconds']:.0f} s")
    for line in report.lines(result["wanted"], result["records"]):
        print(f"  {line}")
    for fault in result["faults"][:40]:
        print(f"  not met: {fault}")
    if len(result["faults"]) > 40:
        print(f"  and {len(result['faults']) - 40} more")
    print(f"  target {'missed' if result['faults'] else 'reached'}", flush=True)


def options():
    parser = argparse.ArgumentParser(prog="conformance/run.sh")
    parser.add_argument("--quick", action="store_true", help="a choice of cases, for CI")
    parser.add_argument("--record", action="store_true", help="write conformance/RESULTS.md; with --role only that part of it")
    parser.add_argument("--role", action="append", choices=ROLES, help="only this role")
    parser.add_argument("--cases", action="append", help="only these cases, as 6.*,9.1.1")
    parser.add_argument("--tls", choices=["also", "only", "not"], default="also")
    parser.add_argument("--shares", type=int, default=4, help="processes of the suite at a time")
    parser.add_argument("--limit", type=int, default=3600, help="seconds for one run of a role")
    given = parser.parse_args()
    if given.record and (given.quick or given.cases or given.tls != "also"):
        parser.error("only whole runs can be recorded")
    return given


def main():
    given = options()
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    started = time.monotonic()
    results = []
    with nginx() as addresses:
        for role in given.role or ROLES:
            for tls in (False, True):
                if given.tls == ("not" if tls else "only"):
                    continue
                if given.cases:
                    patterns = given.cases
                elif role == "server-inspected":
                    patterns = INSPECTED
                elif given.quick:
                    patterns = QUICK_OVER_TLS if tls else PROTOCOL + LIMITS + DEFLATE
                else:
                    patterns = OVER_TLS if tls else ["*"]
                results.append(run(role, tls, patterns, given.shares, given.limit, addresses))
                show(results[-1])
    seconds = time.monotonic() - started
    loud = loud_lines()
    if loud:
        print(f"\n{len(loud)} lines above notice in {WORK / 'nginx.log'}", *loud[:20], sep="\n  ")
    if given.record:
        if given.role:
            report.record_some(results, NGINX)
        else:
            report.record(results, NGINX, seconds)
    passed = not loud and not any(result["faults"] for result in results)
    print(f"\n{len(results)} runs, {seconds:.0f} s: {'PASSED' if passed else 'NOT PASSED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        print(f"conformance: {trouble}", file=sys.stderr)
        sys.exit(1)
