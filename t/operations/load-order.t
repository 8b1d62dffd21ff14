BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# load_module in the wrong order, twice, without ngx_lua, with an ngx_lua that is too old, and of a
# module built for another nginx: nginx -t says what is wrong and fails. docs/installing.md explains each text.
import os
import re
import shutil
import struct
import subprocess

from lib.live import BINARY, ROOT, Nginx, Tap, equal, modules

tap = Tap()
*LUA, OURS = modules()
STATIC = not LUA  # ngx_lua is part of the binary
version = subprocess.run([BINARY, "-v"], stderr=subprocess.PIPE, text=True).stderr
major, minor, patch = map(int, re.search(r"/(\d+)\.(\d+)\.(\d+)", version).groups())
VERSION = major * 1000000 + minor * 1000 + patch


def undefined(module):
    return f'[emerg] dlopen() "{module}" failed ({module}: undefined symbol: '


def changed(path, old, new):
    """A copy of a module in which some bytes are others, as in one built from other sources."""
    def make():
        with open(path, "rb") as f:
            data = f.read()
        assert len(old) == len(new) and old in data, f"{path} has no {old!r}"
        copy = f"{ROOT}/{os.path.basename(path)}"
        with open(copy, "wb") as f:
            f.write(data.replace(old, new))
        return copy
    return make


def test(name, load, expected, status=1):
    def attempt():
        ng = Nginx(load=load)
        files = [module() if callable(module) else module for module in load]
        if STATIC or any("ngx_http_lua_module" in module for module in files):
            ng.write(load=files)
        else:
            with open(ng.conf, "w") as out:
                out.write("".join(f"load_module {m};\n" for m in files))
                out.write("events { }\nhttp { }\n")
        done = subprocess.run(ng.command("-t"), stderr=subprocess.PIPE, text=True)
        print("".join(f"# {line}\n" for line in done.stderr.splitlines()), end="")
        equal(done.returncode, status)
        assert expected in done.stderr, f"not said: {expected}"
    tap.attempt(name, attempt)


test("the right order", LUA + [OURS], "test is successful", 0)
test("twice", LUA + [OURS, OURS],
     '[emerg] module "ngx_http_lua_websocket_module" is already loaded')
if not STATIC:
    test("before ngx_lua", LUA[:-1] + [OURS] + LUA[-1:], undefined(OURS))
    test("without ngx_lua", LUA[:-1] + [OURS], undefined(OURS))
    test("alone", [OURS], undefined(OURS))
    test("without ngx_lua's own ndk", [LUA[-1], OURS], undefined(LUA[-1]) + "ndk_")
    test("an ngx_lua from before 0.10.19",
         LUA[:-1] + [changed(LUA[-1], b"\0exit_worker_by_", b"\0exit-worker-by-"), OURS],
         "[emerg] nginx-lua-websocket needs ngx_lua 0.10.19 or newer, this one is older in ")
test("built for another version",
     LUA + [changed(OURS, struct.pack("<Q", VERSION), struct.pack("<Q", 1021999))],
     f'/{os.path.basename(OURS)}" version 1021999 instead of {VERSION}')
test("built with other flags", LUA + [changed(OURS, b"8,4,8,", b"8,8,8,")],
     f'/{os.path.basename(OURS)}" is not binary compatible')
shutil.rmtree(ROOT)
tap.done()
