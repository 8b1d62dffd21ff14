#!/usr/bin/env bash
# `make run`: what is missing, a build that is quick to make, and the demo in the foreground. Each step
# has a line with the time since the beginning, and one every few seconds while it lasts; what the
# tools say goes to build/run.log, whose end is shown where a step fails. The module is built with
# cargo's profile "demo" into build/demo; a release that `make build` has left and that is newer than
# every source is taken as it is.
#   LISTEN=ADDRESS:PORT   as for nginx-conf/start.sh
#   START=SCRIPT          another one than that, which is told LISTEN, too (nginx-conf/cluster/start.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/demo
log=build/run.log
begun=$SECONDS

say() { printf '%4d s  %s\n' $((SECONDS - begun)) "$*"; }

# step TEXT COMMAND...: its output goes to the log, the log's last line into the lines of progress
step() {
    local text=$1 waited=0 pid last
    shift
    say "$text"
    "$@" >"$log" 2>&1 &
    pid=$!
    trap 'kill $pid 2>/dev/null; exit 130' INT TERM
    while kill -0 $pid 2>/dev/null; do
        sleep 0.2
        waited=$((waited + 1))
        [ $((waited % 25)) = 0 ] || continue
        last=$(tail -c 400 "$log" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | sed 's/^ *//' | cut -c1-60) || true
        say "  ... ${last:-$text}"
    done
    wait $pid || { tail -n 20 "$log" >&2; say "failed: $text (all of it: $log)" >&2; exit 1; }
    trap - INT TERM
}

packages() { DEPS_LOG=$log tools/deps.sh build; }
headers() { tools/nginx-headers.sh build/nginx >build/demo/headers; }
module() {
    local lines
    mapfile -t lines <build/demo/headers
    # A bar that counts, though nobody sees it but the lines of progress.
    env "${lines[@]}" CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=60 \
        cargo build --profile demo -p nginx-lua-websocket
    cp target/demo/lib$name build/demo/$name.new
    mv build/demo/$name.new build/demo/$name
}

[ -n "${START:-}" ] || nginx-conf/start.sh --free    # a demo that runs is told before anything is built

name=ngx_http_lua_websocket_module.so
step "packages: what is missing is installed" packages
step "nginx's headers" headers
if [ -f build/$name ] && [ -z "$(find Cargo.toml Cargo.lock build.rs build/nginx/version src crates -newer build/$name -print -quit)" ]; then
    say "the module: build/$name is up to date"
    export MODULE=build/$name
else
    step "the module: compiled for speed of compiling (make build makes the release)" module
    export MODULE=build/demo/$name
fi
say "nginx starts"
exec "${START:-nginx-conf/start.sh}"
