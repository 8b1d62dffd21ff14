BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# The LuaLS annotations in lua/meta are about the tables that require() really gives: every module has
# its file, every function and method is there with its parameters, and nothing else is.
import glob
import re

from lib.live import REPO, Cases, equal, run
from lib.peer import Peer

cases = Cases()

# Name and parameters of each function of a table, and names of its other fields.
DUMP = """
    local function dump(t)
        local lines = {}
        for name, value in pairs(t) do
            if type(value) ~= "function" then
                lines[#lines + 1] = tostring(name)
            else
                local info, params = debug.getinfo(value, "uS"), {}
                if info.what ~= "Lua" then
                    lines[#lines + 1] = name
                else
                    for i = 1, info.nparams do
                        params[i] = debug.getlocal(value, i)
                    end
                    if info.isvararg then params[#params + 1] = "..." end
                    lines[#lines + 1] = name .. "(" .. table.concat(params, ", ") .. ")"
                end
            end
        end
        return table.concat(lines, "\\n")
    end
"""
cases.handler("/modules", """
    local names = {}
    for name in pairs(package.preload) do
        if name:find("websocket", 1, true) then names[#names + 1] = name end
    end
    ngx.print(table.concat(names, "\\n"))
""")
cases.handler("/module", DUMP + "ngx.print(dump(require(ngx.var.arg_name)))")
cases.handler("/objects", DUMP + """
    local websocket = require "resty.websocket"
    local ws = websocket.accept()
    local client = websocket.connect("ws://127.0.0.1:" .. ngx.var.server_port .. "/echo")
    local methods = function(object) return dump(getmetatable(object).__index) end
    ws:send(table.concat({ methods(ws), methods(client), methods(client:send_stream()) }, "\\n\\n"))
    client:close()
    ws:shutdown()
""")
cases.handler("/websockets", DUMP + """
    local websockets = require "websockets"
    local context = websockets.context{}
    -- The metatables are hidden from programs, and not from debug.
    local found
    for i = 1, 60 do
        local name, value = debug.getupvalue(websockets.context, i)
        if name == "methods" then found = value.metatable.__index end
    end
    ngx.print(dump(debug.getmetatable(context).__index), "\\n\\n", dump(found))
""")
cases.handler("/echo", """
    local ws = require("resty.websocket").accept()
    ws:recv()
""")


def annotated(path):
    """{class: {function with its parameters, or field}} of an annotation file, {class: parent}, the
    module's name and the name of its class."""
    with open(path) as f:
        text = f.read()
    name = re.match(r"---@meta ([\w.]+)\n", text)[1]
    equal(path, f"{REPO}/lua/meta/{name.replace('.', '/')}.lua", "file of " + name)
    entries, parents, variables = {}, {}, {}
    for block in re.finditer(r"---@class ([\w.]+)(?: : ([\w.]+))?\n((?:---.*\n)*)(?:local (\w+) = )?",
                             text):
        kind, parent, fields, variable = block.groups()
        if not variable:
            continue
        entries[kind], parents[kind], variables[variable] = set(), parent, kind
        entries[kind] |= set(re.findall(r"---@field (\w+)\??", fields))
    for lines, variable, mark, function, params in re.findall(
            r"((?:---.*\n)*)function (\w+)([.:])(\w+)\((.*)\) end", text):
        named = re.findall(r"---@param (\w+|\.\.\.)\??", lines)
        equal(", ".join(named), params, f"annotated parameters of {name} {function}")
        words = (["self"] if mark == ":" else []) + named
        entries[variables[variable]].add(f"{function}({', '.join(words)})")
    return name, variables[re.search(r"return (\w+)\n\Z", text)[1]], entries, parents


FILES = {}
for file in sorted(glob.glob(f"{REPO}/lua/meta/**/*.lua", recursive=True)):
    meta = annotated(file)
    FILES[meta[0]] = meta


def compare(what, real, annotations, fields_too=True):
    """`real` is what dump() printed. Parameters of functions in C have no names, and metamethods no
    annotation. The first parameter of a constructor is the module itself, whatever it is called."""
    real = {entry for entry in real.split("\n") if not entry.startswith("__")}
    left = set(annotations)
    for entry in sorted(real):
        name = entry.split("(")[0]
        found = [a for a in left if a.split("(")[0] == name]
        equal(len(found), 1, f"annotations of {what} {name}")
        if "(" in entry and "(" in found[0]:
            equal(re.sub(r"\((_|self)\b", "(self", found[0]), re.sub(r"\((_|self)\b", "(self", entry),
                  what)
        left.discard(found[0])
    missing = {entry for entry in left if fields_too and "(" in entry}
    assert not missing, f"{what} has no {sorted(missing)}"


def own(ng, name):
    return ng.get(f"/module?name={name}")


# Parts of other modules, which say so in their first line: no API of their own.
PARTS = {"resty.websocket.listen"}


@cases("every module has an annotation file, and every file a module")
def _(ng):
    equal(sorted(FILES), sorted(set(ng.get("/modules").split("\n")) - PARTS))


for module in sorted(FILES):
    @cases(f"{module}: functions and fields")
    def _(ng, module=module):
        _, kind, entries, _ = FILES[module]
        compare(module, own(ng, module), entries[kind])


@cases("websockets: methods of contexts and websockets")
def _(ng):
    _, _, entries, _ = FILES["websockets"]
    context, websocket = ng.get("/websockets").split("\n\n")
    compare("websockets.Context", context, entries["websockets.Context"])
    compare("websockets.Websocket", websocket, entries["websockets.Websocket"])


@cases("resty.websocket: methods of connections and writers")
def _(ng):
    peer = Peer(ng, "/objects")
    opcode, text = peer.frame()
    equal(opcode, 0x81)
    server, client, writer = text.decode().split("\n\n")
    _, _, entries, parents = FILES["resty.websocket"]
    for name, real in ("Connection", server), ("ClientConnection", client), ("Writer", writer):
        kind, every = f"resty.websocket.{name}", set()
        while kind:
            every |= entries[kind]
            kind = parents[kind]
        compare(name, real, every)
    peer.sock.close()


run(cases)
