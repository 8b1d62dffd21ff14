BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# Finalizers (`__gc`) may run wherever the collector takes a step, those included that this module
# makes it take. Freed memory is overwritten here (MALLOC_PERTURB_), so that nothing reads it unseen.
import os

os.environ["MALLOC_PERTURB_"] = "165"

from lib.live import Cases, await_, run
from lib.peer import BINARY_FRAME, Peer, frame

case = Cases()

# Large strings, so that vm/memory.rs starts the collector when no more come; then a proxy whose
# finalizer logs, after which only that timer runs Lua.
case.handler("/garbage", """
    local wb = live.open{ max_payload_len = 2^24 }
    wb:recv_frame()
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = function()
        ngx.log(ngx.INFO, "collected")
    end
""", directives="""
    log_by_lua_block { local done = ngx.var.uri }
    header_filter_by_lua_block { ngx.header["X-Seen"] = ngx.var.uri }
""")


@case("the request of the last log_by_lua is not there for a finalizer")
def by_timer(ng):
    for turn in range(1, 6):
        peer = Peer(ng, "/garbage")
        peer.send(frame(BINARY_FRAME, bytes(1 << 20)))
        peer.rest()
        peer.close()
        await_(lambda: ng.read_log().count("collected") >= turn, "the finalizer's line")


run(case, http="""
    init_worker_by_lua_block { collectgarbage("setstepmul", 1000000) }
""")
