BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What README.md and docs/ show as nginx configuration is accepted by nginx, and what they show as Lua
# compiles: every block that is marked so, as it stands; and the examples that no other test runs.
import glob
import os
import re
import subprocess

from lib.live import PORT, REPO, Nginx, Tap, equal, modules

tap = Tap()
blocks = {"nginx": [], "lua": []}
for path in sorted([f"{REPO}/README.md", *glob.glob(f"{REPO}/docs/*.md")]):
    with open(path) as f:
        text = f.read()
    for found in re.finditer(r"^```(nginx|lua)\n(.*?)^```$", text, re.M | re.S):
        line = text.count("\n", 0, found.start()) + 1
        blocks[found[1]].append((f"{os.path.relpath(path, REPO)}:{line}", found[2]))


def accepted(config):
    def attempt():
        ng = Nginx()
        with open(ng.conf, "w") as out:
            load = "".join(f"load_module {module};\n" for module in modules())
            shown = re.sub(r"^load_module .*;\n", "", config, flags=re.M)
            # Even with -t nginx opens its ports, and those that are shown may be taken.
            out.write(load + re.sub(r"\blisten (?:127\.0\.0\.1:)?\d+", f"listen 127.0.0.1:{PORT}", shown))
        done = subprocess.run(ng.command("-t"), stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr
    return attempt


for place, text in blocks["nginx"]:
    if re.search(r"^(load_module|http)\b", text, re.M):
        whole = text if "events" in text else f"{text}\nevents {{}}\n"
    elif re.match(r"\s*(#.*\n\s*)*(location|websocket_(?!zone|lua_modules|topic|history_zone|broker))", text):
        whole = f"events {{}}\nhttp {{ server {{ listen 80;\n{text}\n}} }}\n"
    else:
        whole = f"events {{}}\nhttp {{\n{text}\n}}\n"
    tap.attempt(f"{place}: nginx takes the configuration", accepted(whole))

for name in "openresty.conf", "minimal.conf":
    with open(f"{REPO}/nginx-conf/{name}") as f:
        tap.attempt(f"nginx-conf/{name}: nginx takes it", accepted(f.read()))

ng = Nginx(server="""location = /compile { content_by_lua_block {
    ngx.req.read_body()
    local chunk, err = loadstring(ngx.req.get_body_data() or io.open(ngx.req.get_body_file()):read("*a"))
    ngx.print(chunk and "compiles" or err)
} }""").start()
try:
    for place, text in blocks["lua"]:
        def attempt():
            done = subprocess.run(["curl", "-sS", "--data-binary", "@-",
                                   f"http://127.0.0.1:{ng.port}/compile"], input=text, text=True,
                                  capture_output=True)
            equal(done.stdout, "compiles", done.stderr)
        tap.attempt(f"{place}: the Lua compiles", attempt)
    tap.attempt("nginx ends", lambda: equal(ng.stop(), 0))
finally:
    ng.kill()
tap.attempt("there was something to look at", lambda: equal([bool(b) for b in blocks.values()], [1, 1]))
tap.done()
