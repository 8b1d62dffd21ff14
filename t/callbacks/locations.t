BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Where websocket.serve() stands: misuse, phases, what a location's directives mean to its callbacks,
# TLS, Lua VMs of their own.
from lib.live import Cases, Tap, await_, equal, run
from lib.peer import CLOSE, TEXT, Peer, context, frame

case = Cases()

case.handler("/misuse", """
    local websocket = require "resty.websocket"
    local function try(...)
        local ok, err = pcall(websocket.serve, ...)
        ngx.say(err)
    end
    try()
    try("x")
    try { on_mesage = print }
    try { on_message = "print" }
    try { on_close = 1 }
    try { max_message_size = 0 }
    ngx.say(pcall(websocket.accept, { on_message = print }))
""")

CALLBACKS = "on_close, on_drain, on_message, on_open"


@case("misuse is an error that names what is wrong")
def _(ng):
    lines = ng.get("/misuse").splitlines()
    equal(lines[:2], ['bad "opts" argument: table expected, got nil',
                      'bad "opts" argument: table expected, got string'])
    assert lines[2].startswith('unknown option "on_mesage" (known: '), lines[2]
    assert CALLBACKS in lines[2], lines[2]
    equal(lines[3:6], ['bad "on_message" option: function expected, got string',
                       'bad "on_close" option: function expected, got 1',
                       'bad "max_message_size" option: size in bytes expected, got 0'])
    assert lines[6].startswith('falseunknown option "on_message" (known: '), lines[6]
    assert "on_open" not in lines[6], lines[6]


for phase in "rewrite", "access":
    case.handler(f"/{phase}", """
        ngx.say(select(2, pcall(require("resty.websocket").serve, {})))
        ngx.exit(200)
    """, phase=phase)


@case("other phases than content are refused before anything is sent")
def _(ng):
    for path in "/rewrite", "/access":
        equal(ng.get(path), "websocket.serve() is for content_by_lua: what comes after it would answer,"
                            " too\n")


READ = """
    assert(require("resty.websocket").serve {
        on_message = function(ws)
            local sock = ngx.socket.tcp()
            assert(sock:connect("127.0.0.1", %d))
            ngx.update_time()
            local start = ngx.now()
            local _, err = sock:receive()
            ngx.update_time()
            ws:send(err .. " " .. ngx.now() - start)
            sock:close()
        end,
    })
"""
LOOK_UP = """
    assert(require("resty.websocket").serve {
        on_message = function(ws)
            ngx.log(ngx.WARN, "said in ", ws.id)
            local _, err = ngx.socket.tcp():connect("nowhere.invalid", 80)
            ws:send(err)
        end,
    })
"""


@case("resolver, time-outs and error log are those of the location", logs="no resolver|said in|timed out")
def _(ng):
    fast, slow, unresolved = Peer(ng, "/fast"), Peer(ng, "/slow"), Peer(ng, "/unresolved")
    slow.send(frame(TEXT, "x"))
    fast.send(frame(TEXT, "x"))
    unresolved.send(frame(TEXT, "x"))
    times = []
    for peer in fast, slow:
        err, time = peer.frame()[1].split()
        equal(err, b"timeout")
        times.append(float(time))
    assert times[0] < times[1] and times[1] > 0.9, times
    equal(unresolved.frame()[1][:50], b"no resolver defined to resolve \"nowhere.invalid\""[:50])
    with open(f"{ng.root}/logs/other.log") as log:
        lines = [line for line in log if "said in" in line]
    equal(len(lines), 1)
    assert "client: 127.0.0.1" in lines[0], lines[0]
    for peer in fast, slow, unresolved:
        peer.sock.close()


@case("over TLS")
def _(ng):
    peer = Peer(ng, "/echo", first=frame(TEXT, "a"), tls=context(), port=ng.port + 1)
    equal(peer.frame(), (TEXT, b"a"))
    peer.send(frame(TEXT, "b" * 100000) + frame(CLOSE, b"\x03\xe8"))
    equal(peer.frame(), (TEXT, b"b" * 100000))
    equal(peer.frame(), (CLOSE, b"\x03\xe8"))


ECHO = """
    assert(require("resty.websocket").serve { on_message = function(ws, data) ws:send(data) end })
"""
case.handler("/echo", ECHO)
case.handler("/own-vm", ECHO, "lua_code_cache off;")


@case("with lua_code_cache off, where each request has a Lua VM of its own")
def _(ng):
    peers = [Peer(ng, "/own-vm") for _ in range(5)]
    for round in range(3):
        for peer in peers:
            peer.send(frame(TEXT, f"{round}"))
            equal(peer.frame(), (TEXT, b"%d" % round))
    for peer in peers:
        peer.send(frame(CLOSE, b"\x03\xe8"))
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))


@case("callbacks of two locations, of one that is nested, and of one that is named")
def _(ng):
    for path in "/echo", "/outer/inner", "/named":
        peer = Peer(ng, path, first=frame(TEXT, path))
        equal(peer.frame(), (TEXT, path.encode()))
        peer.send(frame(CLOSE, b"\x03\xe8"))
        equal(peer.frame(), (CLOSE, b"\x03\xe8"))
        equal(peer.rest(), b"")


def prepare(ng):
    silent = ng.port + 2
    server = case.server
    for path, body, directives in (
            ("/fast", READ % silent, "lua_socket_read_timeout 50ms; lua_socket_log_errors off;"),
            ("/slow", READ % silent, "lua_socket_read_timeout 1s; lua_socket_log_errors off;"),
            ("/unresolved", LOOK_UP, f"error_log {ng.root}/logs/other.log info;")):
        server += f"location = {path} {{ {directives} content_by_lua_block {{ {body} }} }}\n"
    server += f"""
        location /outer/ {{ location /outer/inner {{ content_by_lua_block {{ {ECHO} }} }} }}
        location = /named {{ try_files /none @named; }}
        location @named {{ content_by_lua_block {{ {ECHO} }} }}
    """
    tls = f"""
        server {{
            listen 127.0.0.1:{ng.port + 1} ssl;
            {ng.certificate()}
            location = /echo {{ content_by_lua_block {{ {ECHO} }} }}
        }}
        server {{
            listen 127.0.0.1:{silent};
            client_header_timeout 60s;
        }}
    """
    return dict(server=server, http=tls)


run(case, prepare=prepare)
