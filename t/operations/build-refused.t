BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# What the build cannot work with is said in one line, and nothing is changed: no Rust or an old one,
# packages that only root can install, no network, an nginx or an ngx_lua from before the oldest ones
# the module knows, an nginx without TLS. dpkg-query and cargo are replaced where a machine would have to be another one.
import os
import shutil
import subprocess

from lib.live import REPO, ROOT, Tap, equal

tap = Tap()
BASE = "/usr/bin:/bin:/usr/sbin:/sbin"
shutil.rmtree(ROOT, ignore_errors=True)
os.makedirs(f"{ROOT}/bin")
CARGO = 'echo "cargo 1.95.0 (0123 2026-01-01)"'
NONE = "exit 1"


def everything(**versions):
    """A dpkg-query that finds every package it is asked for, in the versions given or in 99."""
    cases = "".join(f'{name.replace("_", "-")}) v={version};; ' for name, version in versions.items())
    return f"""format=$2; shift 2
        for name; do
            case $name in {cases} *) v=99;; esac
            case $format in *Status*) echo "ii $name";; *) echo "$v";; esac
        done"""


def refuses(name, expected, script="tools/deps.sh", args=("build",), env=None, before=(),
            **programs):
    def attempt():
        for program, text in programs.items():
            path = f"{ROOT}/bin/{program.replace('_', '-')}"
            with open(path, "w") as f:
                f.write(f"#!/bin/sh\n{text}\n")
            os.chmod(path, 0o755)
        try:
            with open(f"{REPO}/{script}") as source:
                done = subprocess.run(
                    [*before, "bash", "-s", *args], stdin=source, text=True, capture_output=True,
                    env={"PATH": f"{ROOT}/bin:{BASE}", **(env or {})}, cwd="/")
        finally:
            for program in os.listdir(f"{ROOT}/bin"):
                os.remove(f"{ROOT}/bin/{program}")
        print("".join(f"# {line}\n" for line in done.stderr.splitlines()), end="")
        equal(done.returncode, 1)
        equal(done.stdout, "")
        lines = done.stderr.splitlines()
        equal(len(lines), 1, "lines said")
        assert expected in lines[0], f"not said: {expected}"
    tap.attempt(name, attempt)


ROOT_USER = os.getuid() == 0
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if ROOT_USER else []
for folder in ROOT, f"{ROOT}/bin":
    os.chmod(folder, 0o755)
visible = subprocess.run([*NOBODY, "test", "-x", f"{ROOT}/bin"]).returncode == 0

if visible:
    refuses("no Rust, and nobody who could install one", "deps: no Rust toolchain: install one with "
            "cargo 1.88 or newer", before=NOBODY, dpkg_query=everything(), cargo="exit 127")
    refuses("an old Rust", "deps: cargo 1.63.0 is too old: 1.88 or newer is needed", before=NOBODY,
            dpkg_query=everything(), cargo='echo "cargo 1.63.0"')
    refuses("packages are missing, and this is not root", "only root can install them: gcc ",
            before=NOBODY, dpkg_query=NONE, cargo=CARGO)
if ROOT_USER and subprocess.run(["unshare", "--net", "true"]).returncode == 0:
    refuses("packages are missing, and there is no network", "deps: apt-get update failed (no "
            "network?); missing: gcc ", before=["unshare", "--net"], dpkg_query=NONE, cargo=CARGO)
refuses("an old nginx", "deps: nginx 1.18.0 is too old: 1.22 or newer is needed", cargo=CARGO,
        dpkg_query=everything(nginx_dev="1.18.0-6.1+deb11u3"))
refuses("an old ngx_lua", "deps: ngx_lua 0.10.13 is too old: 0.10.19 or newer is needed", cargo=CARGO,
        dpkg_query=everything(libnginx_mod_http_lua="1:0.10.13-2"))
refuses("a group that does not exist", "deps: unknown group 'bild'", args=("bild",))

source = f"{ROOT}/source"
os.makedirs(f"{source}/src/core")


def headers(name, expected, version=None, **env):
    if version:
        number = "".join(part.zfill(3) for part in version.split(".")).lstrip("0")
        with open(f"{source}/src/core/nginx.h", "w") as f:
            f.write(f'#define nginx_version      {number}\n#define NGINX_VERSION      "{version}"\n')
    refuses(name, expected, "tools/nginx-headers.sh", (f"{ROOT}/headers",), env)


headers("a source folder that is none", "has no src/core/nginx.h", NGINX_SOURCE_DIR="/nowhere")
headers("the source of an old nginx", "nginx-headers: nginx 1.20.2 is too old: 1.22 or newer is needed",
        "1.20.2", NGINX_SOURCE_DIR=source)
headers("a source that is not configured", "/objs has no ngx_auto_config.h: run nginx's ./configure",
        "1.28.3", NGINX_SOURCE_DIR=source)
os.makedirs(f"{source}/objs")
with open(f"{source}/objs/ngx_auto_config.h", "w") as f:
    f.write("#define NGX_COMPAT  1\n")
headers("the source of an nginx without TLS", "/objs was configured without --with-http_ssl_module",
        "1.28.3", NGINX_SOURCE_DIR=source)
tap.attempt("nothing was written", lambda: equal(os.path.exists(f"{ROOT}/headers"), False))
shutil.rmtree(ROOT)
tap.done()
