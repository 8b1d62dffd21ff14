BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# websocket_lua_modules: which names `require` finds in the module, and which are left to the user's
# own library of that name. In init_by_lua, in requests, and in the VMs of lua_code_cache off.
import os

from lib.live import Cases, Tap, equal, run

tap = Tap()
FAMILIES = {
    "tarantool": ["websocket", "websocket.frame", "websocket.handshake", "websocket.ssl",
                  "websocket.utf8_validator"],
    "lua-websockets": ["websockets"],
    "resty": ["resty.websocket.client", "resty.websocket.protocol", "resty.websocket.proxy",
              "resty.websocket.server"],
}
ALL = ["resty.websocket", *(name for names in FAMILIES.values() for name in names)]
LIST = "{ " + ", ".join(f'"{name}"' for name in ALL) + " }"

# Whose a module is: "mine" is the user's file, "ours" the module's.
LUA = f"""
    function owners()
        local found = {{}}
        for _, name in ipairs {LIST} do
            found[#found + 1] = name .. "=" .. (rawget(require(name), "mine") and "mine" or "ours")
        end
        return table.concat(found, " ")
    end
"""


def library(ng):
    """A library of the user's with every one of the names; gives the section that finds it."""
    for name in ALL:
        path = f"{ng.root}/html/mine/{name.replace('.', '/')}.lua"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.write(f'return {{ mine = true, name = "{name}" }}\n')
    # The path is written once there is a root; what runs at the start waits for it.
    return {"http": ng.sections["http"].replace("@MINE@", f"{ng.root}/html/mine")}


def place(title, directive, families, more=""):
    expected = " ".join(f"{name}=" + ("ours" if name == "resty.websocket" or any(
        name in FAMILIES[family] for family in families) else "mine") for name in ALL)
    case = Cases()
    case.handler("/now", "ngx.print(owners())")
    case.handler("/early", "ngx.print(early)")
    # The client of resty.websocket is built on modules that `require` may not find.
    case.handler("/echo", """
        local ws = assert(require("resty.websocket").accept())
        for data, typ in ws:messages() do ws:send(data, typ) end
    """)
    case.handler("/connect", """
        local websocket = require "resty.websocket"
        local ws = assert(websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/echo"))
        assert(ws:send("there and back"))
        ngx.print((ws:recv()))
        ws:close()
    """)

    @case(title)
    def _(ng):
        for path in "/early", "/now", "/now":
            equal(ng.get(path), expected, path)
        equal(ng.get("/connect"), "there and back")

    run(case, tap=tap, prepare=library, http=f"""{directive} {more}
        init_by_lua_block {{
            package.path = "@MINE@/?.lua;" .. package.path
            {LUA}
            early = owners()
        }}""")


place("without the directive all are ours", "", FAMILIES)
place("all by name", "websocket_lua_modules resty tarantool lua-websockets;", FAMILIES)
place("resty alone", "websocket_lua_modules resty;", ["resty"])
place("lua-websockets alone", "websocket_lua_modules lua-websockets;", ["lua-websockets"])
place("tarantool alone", "websocket_lua_modules tarantool;", ["tarantool"])
place("none", "websocket_lua_modules none;", [])
place("none, lua_code_cache off", "websocket_lua_modules none;", [], "lua_code_cache off;")
place("resty, lua_code_cache off", "websocket_lua_modules resty;", ["resty"], "lua_code_cache off;")
tap.done()
