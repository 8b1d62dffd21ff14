"""What a message through a proxy costs: nginx's own tunnel, websocket_proxy, websocket.proxy with a
callback, and what there was before: a library (PROXY_REFERENCE names its folder, in which
resty/websocket/proxy.lua lies) or, without it, a plain forwarder in Lua over lua-resty-websocket.

The upstream is an echo on the client's core, so that only the proxy's time counts.
"""
import contextlib
import dataclasses
import os

from servers import CLIENT_CORE, Contender, Nginx, Peer

KIB = 1024
ROWS = [(32, 100, 1), (32, 10, 16), (16 * KIB, 100, 1), (16 * KIB, 10, 16)]
REFERENCE = os.environ.get("PROXY_REFERENCE")
BEFORE = "lua-resty-websocket-proxy" if REFERENCE else "a forwarder in Lua"


def columns():
    """Name and path of each."""
    before = "/proxy/reference" if REFERENCE else "/proxy/forward"
    return [("tunnel", "/proxy/tunnel"), ("websocket_proxy", "/proxy/native"),
            ("websocket.proxy, on_message", "/proxy/message"), (BEFORE, before)]


def nginx(upstream):
    http = 'lua_package_path "@BENCH@/lua/?.lua;;";'
    if REFERENCE:
        http = ("websocket_lua_modules none;"
                f'lua_package_path "{REFERENCE}/?.lua;{REFERENCE}/lib/?.lua;@BENCH@/lua/?.lua;;";')
    return lambda: Nginx("proxy.conf", http=http, values={"UPSTREAM": f"127.0.0.1:{upstream.port}"})


def proxy(pace, load, interleaved):
    """Rows of CPU for a message, and KB for a pair that is silent."""
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Peer("fastwebsockets", core=CLIENT_CORE))
        make = nginx(upstream)
        contenders = [Contender(name, stack.enter_context(make()), path) for name, path in columns()]
        rows = interleaved(pace, ROWS, contenders, lambda row, c: load(
            "echo", c, pace, "--size", row[0], "--connections", row[1], "--depth", row[2]))
        # Both ends of each are connections of this machine, and the upstream's are files as well.
        few = dataclasses.replace(pace, idle=min(pace.idle, 2000))
        memory = {}
        for name, path in columns():
            with make() as server:
                memory[name] = load("idle", Contender(name, server, path), few, "--connections", few.idle,
                                    seconds=0.5)["fresh_kb"]
    return {"before": BEFORE, "rows": rows, "memory": memory, "pairs": few.idle}
