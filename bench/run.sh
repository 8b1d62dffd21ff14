#!/usr/bin/env bash
# Everything behind `make bench`: installs what is missing, builds load generator and peers, runs
# the tables, and writes RESULTS.md and results.svg beside this file. The module has to be built
# before (`make build`, or MODULE=... for another one). Usage: bench/run.sh [--quick] [--only NAME,...]
set -euo pipefail
cd "$(dirname "$0")"

# What is measured against, and what measures: command or file that shows it is there, and package.
needs=(
    nginx:nginx
    /usr/lib/nginx/modules/ngx_http_lua_module.so:libnginx-mod-http-lua
    /usr/lib/nginx/modules/ngx_nchan_module.so:libnginx-mod-nchan
    /usr/share/lua/5.1/nginx/websocket/server.lua:lua-nginx-websocket
    redis-server:redis-server openssl:openssl python3:python3 taskset:util-linux strace:strace perf:linux-perf
)
missing=()
for need in "${needs[@]}"; do
    what=${need%%:*}
    command -v "$what" >/dev/null || [ -e "$what" ] || missing+=("${need#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "bench: only root can install ${missing[*]}" >&2; exit 1; }
    echo "bench: installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
fi

# Both ends of ten thousand connections and more.
ulimit -n 20000 2>/dev/null || echo "bench: open files are limited to $(ulimit -n)" >&2

cargo build --release --quiet -p load -p peers
exec python3 bench.py "$@"
