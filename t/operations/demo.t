BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The demo as nginx-conf/start.sh starts it: it says its address once it answers; a second one is
# refused in words, as is one whose port somebody else has, and neither harms the first.
import http.client
import os
import signal
import subprocess
import urllib.request

from lib.live import BINARY, PORT, REPO, ROOT, Tap, await_, equal, modules

tap = Tap()
SCRIPT = f"{REPO}/nginx-conf/start.sh"
ADDRESS = f"127.0.0.1:{PORT}"
OURS = next(path for path in modules() if "websocket" in path)


def start(run, listen=ADDRESS, *args, **more):
    return subprocess.Popen(
        [SCRIPT, *args], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "LISTEN": listen, "RUN": f"{ROOT}/{run}", "NGINX_BIN": BINARY,
             "MODULE": OURS, **more})


def refused(process, *expected):
    _, said = process.communicate()
    equal(process.returncode, 1, said)
    for text in expected:
        assert text in said, f"not said: {text!r}, but {said!r}"


def answers():
    with urllib.request.urlopen(f"http://{ADDRESS}/") as page:
        return b"nginx-lua-websocket" in page.read()


def subscribe(origin):
    """The status of a browser's request for its feed, from a page of that origin."""
    line = http.client.HTTPConnection(ADDRESS)
    line.request("GET", "/private/feed", headers={
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Cookie": "token=ann-s-secret",
        "Origin": origin})
    status = line.getresponse().status
    line.close()
    return status


def demo():
    os.makedirs(ROOT, exist_ok=True)
    first = start("demo")
    try:
        line = first.stdout.readline()
        equal(line.split()[-1:], [f"http://{ADDRESS}/"], "the last word of the line")
        assert answers()
        # Its own pages are let in, whatever its port is.
        for host in "127.0.0.1", "localhost":
            equal(subscribe(f"http://{host}:{PORT}"), 101)
            equal(subscribe(f"http://{host}:8080"), 403)

        refused(start("demo"), f"a demo is running already: http://{ADDRESS}/",
                f"kill {first.pid}")
        refused(start("demo", ADDRESS, "--free"), "a demo is running already")
        refused(start("other"), f"something else listens on {ADDRESS}")
        with open(f"{ROOT}/demo/nginx.pid") as pid:
            equal(int(pid.read()), first.pid, "the first's pid file")
        assert answers()

        first.send_signal(signal.SIGINT)
        equal(first.wait(), 0)
        equal(first.stderr.read(), "", "nginx's log")
        again = start("demo", ADDRESS, "--free")
        equal(again.wait(), 0, "free again")
    finally:
        first.kill()
        first.wait()


def publishers():
    """The image's setting: who publishes from outside has another address than 127.0.0.1."""
    def status(path, source):
        line = http.client.HTTPConnection("127.0.0.1", PORT, source_address=(source, 0))
        line.request("POST", path, "hello")
        answer = line.getresponse().status
        line.close()
        return answer

    demo = start("publishers", PUBLISHERS="127.1.0.0/16 127.2.0.0/16")
    try:
        demo.stdout.readline()
        for path in "/publish/lobby", "/feed/publish", "/private/publish?user=ann":
            for source, expected in [("127.0.0.1", 202), ("127.1.0.9", 202), ("127.2.0.9", 202),
                                     ("127.3.0.9", 403)]:
                equal(status(path, source), expected, f"{path} from {source}")
        demo.send_signal(signal.SIGINT)
        equal(demo.wait(), 0)
    finally:
        demo.kill()
        demo.wait()


if "/usr/lib/nginx/modules/ngx_http_lua_module.so" not in modules():
    print("1..0 # SKIP the demo's nginx.conf loads Debian's ngx_lua")
    raise SystemExit
tap.attempt("one demo, and what a second one is told", demo)
tap.attempt("who may publish from outside", publishers)
tap.done()
