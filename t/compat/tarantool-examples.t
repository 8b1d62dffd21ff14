BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The examples of nginx-conf/tarantool, started as their nginx.conf says (with other ports and hosts),
# and talked to: by this test's own client, and by each other.
import os
import re
import shutil
import subprocess

from lib.live import BINARY, PATIENCE, PORT, REPO, ROOT, Nginx, Tap, await_, equal, modules
from lib.peer import CLOSE, PING, TEXT, Peer, context, frame

tap = Tap()
HTTP, ECHO, PUSH, TLS, SUITE, TICKER = range(PORT + 1, PORT + 7)
OTHER = f"""
    init_worker_by_lua_block {{
        local websocket = require "websocket"
        -- What the clients expect at the other end: an exchange's ticker, and a test server.
        assert(websocket.server("ws://127.0.0.1:{TICKER}", function(ws)
            local wish = ws:read().data
            ws:write(wish)
            ws:write('{{"price":1}}')
            ws:shutdown(1000)
        end))
        local cases = 0
        assert(websocket.server("ws://127.0.0.1:{SUITE}", function(ws)
            assert(ws:check_handshake(10) and ws:check_handshake(0))
            local uri = ws.handshake_packets.request.uri
            if uri == "/getCaseCount" then
                ws:write("3")
            elseif uri:find("^/runCase%?case=%d&agent=nginx$") then
                ws:write(uri)
                cases = cases + (ws:read().data == uri and 1 or 0)
            else
                require("live").report_as("suite", uri, cases)
            end
            ws:shutdown(1000)
        end))
    }}
"""


class Examples(Nginx):
    """The examples beside the server that they talk to: a second configuration in the same root."""

    def start(self):
        folder = f"{ROOT}/nginx-conf/tarantool"
        shutil.copytree(f"{REPO}/nginx-conf/tarantool", folder)
        os.makedirs(f"{ROOT}/build/run")
        places = [("wss://echo.websocket.org", f"wss://127.0.0.1:{TLS}"),
                  ("wss://ws-feed.pro.coinbase.com", f"ws://127.0.0.1:{TICKER}"),
                  ("127.0.0.1:8000", f"127.0.0.1:{HTTP}"), ("0.0.0.0:8080", f"127.0.0.1:{ECHO}"),
                  ("0.0.0.0:8081", f"127.0.0.1:{PUSH}"), ("0.0.0.0:8443", f"127.0.0.1:{TLS}"),
                  ("127.0.0.1:9001", f"127.0.0.1:{SUITE}"),
                  ("build/run/nginx.pid", "logs/nginx.pid"),
                  ("stderr notice", f"{self.log} info"),
                  ('"nginx-conf/tarantool/', f'"{folder}/')]
        for name in os.listdir(folder):
            with open(f"{folder}/{name}") as file:
                text = file.read()
            for old, new in places:
                text = text.replace(old, new)
            if name == "nginx.conf":
                text = re.sub(r"load_module .*;\n", "", text)
                load = "".join(f"load_module {module};\n" for module in modules())
                user = "user root;\n" if os.getuid() == 0 else ""
                text = load + user + text
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)
        self.certificate()
        with open(f"{ROOT}/certificate.pem", "w") as out:
            for part in "key", "cert":
                with open(f"{ROOT}/conf/{part}.pem") as file:
                    out.write(file.read())
        # The file is looked for where nginx was started.
        home = os.getcwd()
        os.chdir(ROOT)
        try:
            return super().start()
        finally:
            os.chdir(home)

    def command(self, *more):
        return [BINARY, "-p", f"{ROOT}/", "-e", self.log, "-c",
                f"{ROOT}/nginx-conf/tarantool/nginx.conf", *more]


def peer(port, tls=None):
    it = Peer(ng, "/", port=port, tls=tls)
    equal(it.frame(), (PING, b""), "the first ping")
    return it


def leave(it):
    it.send(frame(CLOSE, b"\x03\xe8"))
    equal(it.frame(), (CLOSE, b"\x03\xe8"))
    equal(it.rest(), b"")
    it.close()


def logged(text):
    await_(lambda: text in ng.read_log(), f"{text!r} in the log")


def echo_server():
    it = peer(ECHO)
    it.send(frame(TEXT, "hello"))
    equal(it.frame(), (TEXT, b"hello"))
    leave(it)


def push():
    its = [peer(PUSH) for _ in range(5)]
    its.pop().close()
    equal(ng.get("/push", port=HTTP), "pushed\n")
    for it in its:
        equal(it.frame(), (TEXT, b'{"text":""}'))
        leave(it)
    equal(ng.get("/push", port=HTTP), "pushed\n")


def ssl_server():
    it = peer(TLS, context())
    it.send(frame(TEXT, "over TLS"))
    equal(it.frame(), (TEXT, b"over TLS"))
    logged('echo {"data":"over TLS","fin":true,"opcode":1,"rsv":0}')
    leave(it)
    logged("Exception close Close handshaked")
    it = peer(TLS, context())
    it.close()
    logged("Normal close")


def client():
    equal(ng.get("/client", port=HTTP), "HELLO\n")
    logged("HELLO")


def ticker():
    wish, price = ng.get("/ticker", port=HTTP).splitlines()
    equal(wish, '{"channels":["level2","heartbeat",{"name":"ticker","product_ids":["ETH-BTC",'
                '"ETH-USD"]}],"product_ids":["ETH-USD","ETH-EUR"],"type":"subscribe"}')
    equal(price, '{"price":1}')


def echo_client():
    equal(ng.get("/echo_client", port=HTTP), "case 1\ncase 2\ncase 3\ndone\n")
    equal(other.get("/live/take?id=suite&wait=10"), "/updateReports?agent=nginx | 3")


# The other end first: it takes the root's usual place.
other = Nginx(http=OTHER)
ng = None
try:
    other.start()
    other.get("/live/open")
    ng = Examples.__new__(Examples)
    ng.port, ng.root, ng.position = HTTP, ROOT, 0
    ng.sections, ng.log, ng.conf, ng.child = dict(workers=1), f"{ROOT}/logs/examples.log", "", None
    os.rename(f"{ROOT}/logs/nginx.pid", f"{ROOT}/logs/other.pid")
    ng.start()
    ng.get("/push", port=HTTP)  # once the worker answers, its ports are open
    for body in echo_server, push, ssl_server, client, ticker, echo_client:
        tap.attempt(body.__name__, body)

    def end():
        for nginx in ng, other:
            equal(nginx.stop(), 0, "exit code of nginx")
            if nginx is ng:
                os.rename(f"{ROOT}/logs/other.pid", f"{ROOT}/logs/nginx.pid")
            loud = nginx.loud()
            assert not loud, "nginx logged:\n" + "\n".join(loud[:10])
            found = nginx.valgrind_findings()
            assert not found, "valgrind:\n" + "\n".join(found[:200])
    tap.attempt("both end without a word", end)
finally:
    other.kill()
    if ng:
        ng.kill()
tap.done()
