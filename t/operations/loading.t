BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Where the module may be loaded and a session be opened: require in every phase and coroutine,
# lua_code_cache off, the rewrite and access phases, and event modules other than epoll.
import os
import subprocess
import time

from lib.live import BINARY, VALGRIND, Cases, Tap, equal, run
from lib.peer import BINARY_FRAME, CLOSE, TEXT, Peer, frame

tap = Tap()
MIB = 1 << 20


def echoes(ng, path="/echo", times=3):
    for n in range(times):
        peer = Peer(ng, path, first=frame(TEXT, "first"))
        equal(peer.frame(), (TEXT, b"first"))
        peer.send(frame(BINARY_FRAME, b"b" * 60000))
        equal(peer.frame(), (BINARY_FRAME, b"b" * 60000))
        if n % 3 == 0:
            peer.send(frame(CLOSE, b"\x03\xe8"))
            equal(peer.frame(), (CLOSE, b"\x03\xe8"))
            equal(peer.rest(), b"")
            peer.close()
        elif n % 3 == 1:
            peer.close()
        else:
            peer.rst()


ECHO = "live.echo(live.open())"


def place(name, http="", body=ECHO, times=3, logs=None, **sections):
    """One nginx of its own, since what is required first counts once a process."""
    case = Cases()
    case.handler("/echo", body)

    @case(name, logs=logs)
    def _(ng):
        echoes(ng, times=times)

    run(case, tap=tap, http=http, **sections)


place("the first require in init_by_lua", """
    init_by_lua_block { server = require "resty.websocket.server" }""",
      body="live.echo(assert(server:new()))")

place("the first require in init_worker_by_lua", """
    init_worker_by_lua_block { server = require "resty.websocket.server" }""",
      body="live.echo(assert(server:new()))")

place("the first require in a timer of init_worker_by_lua", """
    init_worker_by_lua_block {
        ngx.timer.at(0, function() server = require "resty.websocket.server" end)
    }""",
      body="""while not server do ngx.sleep(0.001) end
              live.echo(assert(server:new()))""", logs="writing a global Lua variable")

# The coroutine that loads the module ends and is collected; what it loaded has to live on.
GARBAGE = "for _ = 1, 5 do collectgarbage() end"
place("the first require in a coroutine", body=f"""
    local server = coroutine.wrap(function() return (require "resty.websocket.server") end)()
    {GARBAGE}
    live.echo(assert(server:new()))
    {GARBAGE}""", times=30)

place("the first require in a light thread", body=f"""
    local _, server = ngx.thread.wait(ngx.thread.spawn(function()
        return (require "resty.websocket.server")
    end))
    {GARBAGE}
    live.echo(assert(server:new()))
    {GARBAGE}""", times=30)

place("the first require in a coroutine of init_by_lua", f"""
    init_by_lua_block {{
        coroutine.wrap(function() server = require "resty.websocket.server" end)()
        {GARBAGE}
    }}""", body="live.echo(assert(server:new()))")

place("two modules first required by two coroutines that fail afterwards", body=f"""
    for _, name in ipairs{{ "resty.websocket", "resty.websocket.server" }} do
        local co = coroutine.create(function() require(name) error("after the load") end)
        assert(not coroutine.resume(co))
    end
    {GARBAGE}
    live.echo(live.open())""", times=5)

place("lua_code_cache off", "lua_code_cache off;", times=6 if VALGRIND else 60)

place("lua_code_cache off, the module loaded by init_by_lua", """
    lua_code_cache off;
    init_by_lua_block { require "resty.websocket.server" }""", times=6)


# --- phases --------------------------------------------------------------------------------------

case = Cases()
ENDS = {"return": "", "exit-ok": "ngx.exit(ngx.OK)", "exit-444": "ngx.exit(444)",
        "error": 'error("on purpose")'}
for phase in "rewrite", "access", "content":
    # Behind rewrite and access there would be a page to serve, which must not happen any more.
    case.handler(f"/{phase}", ECHO, phase=phase)
    for end, code in ENDS.items():
        case.handler(f"/{phase}-{end}", f"""
            local wb = live.open{{ max_payload_len = 3 * {MIB} }}
            wb:send_text("got " .. wb:recv_frame())
            ngx.timer.at(0, function() wb:send_binary(("e"):rep(3 * {MIB})) end)
            live.take_signal()
            {code}
        """, phase=phase)


@case("echo in the rewrite, access and content phases")
def _(ng):
    for phase in "rewrite", "access", "content":
        echoes(ng, f"/{phase}", 6)


@case("output pending at the end of each phase",
      logs="aborted: runtime error: .*on purpose")
def _(ng):
    for phase in "rewrite", "access", "content":
        for end in ENDS:
            peer = Peer(ng, f"/{phase}-{end}", window=16384)
            peer.send(frame(TEXT, "it"))
            equal(peer.frame(), (TEXT, b"got it"))
            equal(peer.peek(2), b"\x82\x7f")
            peer.signal()
            time.sleep(0.05)
            equal(peer.frame(), (BINARY_FRAME, b"e" * (3 * MIB)), f"{phase}, {end}")
            equal(peer.rest(), b"", f"{phase}, {end}")
            peer.close()


case.server += """
    location /inherited {
        access_by_lua_block { require("live").echo(require("live").open()) }
        location /inherited/static { }
        location /inherited/proxied { proxy_pass http://127.0.0.1:1; }
    }
"""


@case("after a session in the access phase no later phase answers")
def _(ng):
    for path in "/inherited/static/", "/inherited/proxied":
        echoes(ng, path, 3)


run(case, tap=tap)


# --- event modules that report states, not changes -----------------------------------------------

def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


version = subprocess.run([BINARY, "-V"], stderr=subprocess.PIPE, text=True).stderr
for method in "poll", "select":
    if f"--with-{method}_module" not in version:
        tap.result(f"{method} # SKIP this nginx was built without it")
        continue
    case = Cases()
    case.handler("/echo", ECHO)
    case.handler("/late", f"""
        local wb = live.open{{ max_payload_len = 3 * {MIB} }}
        wb:send_text("open")
        live.take_signal()
        live.report((wb:recv_frame()))
        live.report((wb:send_binary(("l"):rep(3 * {MIB}))))
    """)

    @case(f"{method}: echo")
    def _(ng):
        echoes(ng, times=9)

    @case(f"{method}: bytes that nobody wants yet and a peer that does not read cost no CPU time")
    def _(ng):
        peer = Peer(ng, "/late", window=16384)
        equal(peer.frame(), (TEXT, b"open"))
        peer.send(frame(TEXT, "early"))
        worker, = ng.workers()
        before = cpu(worker)
        time.sleep(0.5)
        # The wait for the signal looks for it 200 times a second.
        assert cpu(worker) - before < 0.25, f"{cpu(worker) - before} s of CPU time"
        peer.signal()
        equal(peer.report(), "early")
        before = cpu(worker)
        time.sleep(0.5)
        if not VALGRIND:
            assert cpu(worker) - before < 0.1, f"{cpu(worker) - before} s of CPU time"
        equal(peer.frame(), (BINARY_FRAME, b"l" * (3 * MIB)))
        equal(peer.report(), str(3 * MIB + 10))
        equal(peer.rest(), b"")
        peer.close()

    run(case, tap=tap, events=f"use {method};")

tap.done()
