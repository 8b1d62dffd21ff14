BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websockets over TLS: certificates under both spellings, clients' certificates, what is not TLS on
# such a port, and certificates that cannot be used.
import socket
import ssl
import subprocess

from lib.live import PATIENCE, PORT, Cases, equal, run
from lib.lws import Ws
from lib.peer import TEXT, context, frame

case = Cases()
FILE, SHORT, STRICT = PORT + 2, PORT + 3, PORT + 4

PROGRAM = """
    local websockets = require "websockets"
    local conf = "@ROOT@/conf/"
    local protocols = {
        echo = function(ws) ws:on_receive(function(ws, data) ws:write(data) end) end,
        mirror = function(ws)
            ws:on_receive(function(ws, data) ws:broadcast(data) end)
        end,
    }
    local function page(ws) ws:serve_http_file(conf .. "cert.pem", "text/plain") end
    local contexts = {
        websockets.context { port = @FILE@, protocols = protocols, on_http = page,
                             ssl_cert_filepath = conf .. "cert.pem",
                             ssl_private_key_filepath = conf .. "key.pem" },
        websockets.context { port = @SHORT@, protocols = protocols,
                             ssl_cert_path = conf .. "cert.pem",
                             ssl_private_key_path = conf .. "key.pem" },
        websockets.context { port = @STRICT@, protocols = protocols,
                             ssl_cert_filepath = conf .. "cert.pem",
                             ssl_private_key_filepath = conf .. "key.pem",
                             ssl_ca_filepath = conf .. "cert.pem",
                             options = websockets.SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT },
    }
    for _, context in ipairs(contexts) do
        context:fork_service_loop()
    end

    function attempt(certificate, key)
        return select(2, pcall(websockets.context, {
            port = @PORT@ + 9, ssl_cert_filepath = certificate and conf .. certificate,
            ssl_private_key_filepath = key and conf .. key, protocols = protocols }))
    end
"""


@case("echo and mirror over TLS, small and large, under both spellings of the files")
def _(ng):
    for port in FILE, SHORT:
        ws = Ws(ng, "echo", port, tls=context(), first=frame(TEXT, "first"))
        equal(ws.text(), "first")
        for text in "a", "ä" * 200000:
            equal(ws.ask(text), text)
        ws.leave()
        clients = [Ws(ng, "mirror", port, tls=context()) for _ in range(3)]
        clients[0].send(frame(TEXT, "m" * 50000))
        for each in clients:
            equal(each.text(), "m" * 50000)
        for each in clients:
            each.leave()


@case("a page over TLS")
def _(ng):
    with socket.create_connection(("127.0.0.1", FILE), PATIENCE) as raw:
        with context().wrap_socket(raw) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            got = b"".join(iter(lambda: s.recv(65536), b""))
    with open(f"{ng.root}/conf/cert.pem", "rb") as f:
        assert got.endswith(b"\r\n\r\n" + f.read()), got[:200]


@case("what is not TLS is dropped on a TLS port, and others are undisturbed")
def _(ng):
    witness = Ws(ng, "echo", FILE, tls=context())
    for data in b"GET / HTTP/1.1\r\nHost: t\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x00\x05hello":
        with socket.create_connection(("127.0.0.1", FILE), PATIENCE) as s:
            s.sendall(data)
            try:
                while s.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        equal(witness.ask("undisturbed"), "undisturbed")
    witness.leave()


@case("clients without a certificate are refused where one is demanded, those with one are not")
def _(ng):
    own = context()
    own.load_cert_chain(f"{ng.root}/conf/cert.pem", f"{ng.root}/conf/key.pem")
    ws = Ws(ng, "echo", STRICT, tls=own)
    equal(ws.ask("known"), "known")
    try:
        stranger = Ws(ng, "echo", STRICT, tls=context())
        raise AssertionError(f"a stranger got in: {stranger.answer}")
    except (ssl.SSLError, ConnectionError, AssertionError) as error:
        assert "got in" not in str(error), error
    equal(ws.ask("still"), "still")
    ws.leave()


@case("files that cannot be used: the reason, at once")
def _(ng):
    conf = f"{ng.root}/conf"
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-out", f"{conf}/other.pem"], check=True,
                   stderr=subprocess.DEVNULL)
    for pair in '"missing.pem", "key.pem"', '"cert.pem", "missing.pem"', '"cert.pem", "other.pem"', \
            '"key.pem", "key.pem"':
        text = ng.get(f"/attempt?pair={pair.replace(' ', '').replace(chr(34), '%22')}")
        assert "websocket could not create context: " in text and len(text) > 60, f"{pair}: {text}"
    # One of the two is as none: a plain port.
    text = ng.get("/attempt?pair=%22cert.pem%22,nil")
    assert text.startswith("context 0x"), text


case.handler("/attempt", """
    local pair = ngx.unescape_uri(ngx.var.arg_pair)
    local context = assert(loadstring("return attempt(" .. pair .. ")"))()
    ngx.print(tostring(context))
    if type(context) == "table" then context:destroy() end
""")


def prepare(ng):
    program, _ = PROGRAM, ng.certificate()
    for name, value in ("FILE", FILE), ("SHORT", SHORT), ("STRICT", STRICT), ("PORT", PORT), \
            ("ROOT", ng.root):
        program = program.replace(f"@{name}@", str(value))
    return {"http": "init_worker_by_lua_block {" + program + "}"}


run(case, prepare=prepare)
