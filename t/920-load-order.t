BEGIN { exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# load_module in the wrong order, twice, and without ngx_lua: nginx -t says what is wrong and fails.
# README explains the message.
import subprocess

from lib.live import Nginx, Tap, equal, modules

tap = Tap()
*LUA, OURS = modules()
UNDEFINED = f'[emerg] dlopen() "{OURS}" failed ({OURS}: undefined symbol: ngx_http_lua_'


def test(name, load, expected, status=1):
    def attempt():
        ng = Nginx(load=load)
        if not any("ngx_http_lua_module" in module for module in load):
            with open(ng.conf, "w") as out:
                out.write("".join(f"load_module {m};\n" for m in load))
                out.write("events { }\nhttp { }\n")
        done = subprocess.run(ng.command("-t"), stderr=subprocess.PIPE, text=True)
        print("".join(f"# {line}\n" for line in done.stderr.splitlines()), end="")
        equal(done.returncode, status)
        assert expected in done.stderr, f"not said: {expected}"
    tap.attempt(name, attempt)


test("the right order", LUA + [OURS], "test is successful", 0)
test("before ngx_lua", LUA[:-1] + [OURS] + LUA[-1:], UNDEFINED)
test("without ngx_lua", LUA[:-1] + [OURS], UNDEFINED)
test("alone", [OURS], UNDEFINED)
test("twice", LUA + [OURS, OURS],
     '[emerg] module "ngx_http_lua_websocket_module" is already loaded')
tap.done()
