#!/usr/bin/env bash
# Real clients against the built module: Python's "websockets" and Node's "ws" against nginx.conf
# in this folder, Chromium against the demo as `make run` starts it and ("cluster") on three machines as
# `make run-cluster` does; and the module's own client
# ("lua") against servers of Python's "websockets", Node's "ws" and nchan; all three of them ("ports")
# against programs that open ports by themselves, those of nginx-conf; Python's and Node's ("tarantool")
# against programs of tarantool/websocket; Node's and Chromium ("proxy") through websocket_proxy and
# websocket.proxy to servers of Python's and Node's. Installs what is missing
# (into build/clients; Chromium from Debian), prints TAP lines and a last "N passed, N failed".
#   run.sh [python|node|lua|chromium|cluster|ports|tarantool|proxy ...]   only these clients
#   run.sh --prepare       installs what is missing, and no more
#   MODULE=PATH, NGINX_BIN=PATH, CHROMIUM=PATH   in place of the usual ones
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin

here=t/clients
work=build/clients
module=${MODULE:-build/ngx_http_lua_websocket_module.so}
prepare=
if [ "${1:-}" = --prepare ]; then prepare=1; shift; fi
clients=("$@")
[ ${#clients[@]} -gt 0 ] || clients=(python node lua chromium cluster ports tarantool proxy)

wants() { [[ " ${clients[*]} " == *" $1 "* ]]; }
die() { echo "$here/run.sh: $*" >&2; exit 1; }

[ -n "$prepare" ] || [ -f "$module" ] || die "no $module: run \"make build\" first"
mkdir -p "$work"

# --- what is needed ------------------------------------------------------------------------------

apt_install() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends "$@" >&2
}

# install_once STAMP FILES... -- COMMAND: again only when one of the files has changed
install_once() {
    local stamp=$work/$1.stamp files=() sum
    shift
    while [ "$1" != -- ]; do files+=("$1"); shift; done
    shift
    sum=$(sha256sum "${files[@]}")
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$sum" ]; then
        "$@" >&2
        echo "$sum" > "$stamp"
    fi
}

python_client() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    python3 -m venv --clear "$work/venv"
    "$work/venv/bin/pip" install -q -r "$here/requirements.txt"
}

node_clients() {
    command -v npm >/dev/null || apt_install nodejs npm
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$work/"
    npm ci --prefix "$work" --silent
}

certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
}

if wants python || wants lua || wants ports || wants tarantool || wants proxy; then install_once python "$here/requirements.txt" -- python_client; fi
if wants node || wants chromium || wants cluster || wants lua || wants ports || wants tarantool || wants proxy; then
    install_once node "$here/package.json" "$here/package-lock.json" -- node_clients
fi
if wants lua && [ ! -e /usr/lib/nginx/modules/ngx_nchan_module.so ]; then
    apt_install libnginx-mod-nchan
fi
if wants chromium || wants cluster || wants ports || wants proxy; then
    chromium=${CHROMIUM:-$(command -v chromium || true)}
    [ -n "$chromium" ] || { apt_install chromium; chromium=$(command -v chromium); }
    command -v curl >/dev/null || apt_install curl
fi
if wants cluster && [ -z "$(command -v redis-server valkey-server)" ]; then tools/deps.sh brokers >&2 || true; fi
[ -f "$work/cert.pem" ] || certificate
[ -z "$prepare" ] || exit 0
export NODE_PATH=$PWD/$work/node_modules

# --- servers -------------------------------------------------------------------------------------

servers=()
stop_servers() {
    local pid
    for pid in "${servers[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${servers[@]}"; do wait "$pid" || true; done
    servers=()
}
trap stop_servers EXIT

free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

# The first of N free ports that follow each other.
free_row() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
while True:
    first = random.randrange(20000, 32000)
    sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
    try:
        for n, s in enumerate(sockets):
            s.bind(("127.0.0.1", first + n))
    except OSError:
        continue
    print(first)
    break
PYTHON
}

# start PORT LOG COMMAND...: a server as our child, ready when this returns
start() {
    local port=$1 log=$2 pid
    shift 2
    "$@" > "$log" 2>&1 &
    pid=$!
    servers+=("$pid")
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; die "$1 did not start"; }
        sleep 0.02
    done
}

# --- clients -------------------------------------------------------------------------------------

passed=0
failed=0
tell() { # tell ok|"not ok" NAME
    if [ "$1" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    echo "$1 $((passed + failed)) - $2"
}

# client NAME COMMAND...: numbers its lines; one that dies without a failed check is a failure too
client() {
    local name=$1 line status=0 failed_before=$failed out
    shift
    out=$work/$name.out
    while IFS= read -r line; do
        case $line in
            "ok - "*) tell ok "$name: ${line#ok - }" ;;
            "not ok - "*) tell "not ok" "$name: ${line#not ok - }" ;;
            "exit status "*) status=${line#exit status } ;;
            *) echo "$line" ;;
        esac
    done < <("$@" 2>&1 | tee "$out"; echo "exit status ${PIPESTATUS[0]}")
    if [ "$status" != 0 ] && [ "$failed" = "$failed_before" ]; then
        tell "not ok" "$name: the client ended with status $status"
    fi
}

# A peer's doings are never worth more than "info"; a crash is an "alert" of the master process. SIGKILL is
# none: that is a client's own doing.
quiet_log() {
    local loud
    loud=$(grep -E '\[(warn|error|crit|alert|emerg)\]' "$2" | grep -v 'exited on signal 9$' || true)
    if [ -z "$loud" ]; then
        tell ok "$1: nothing above notice in nginx's log"
    else
        tell "not ok" "$1: nothing above notice in nginx's log"
        head -n 20 <<< "$loud" | sed 's/^/# /'
    fi
}

fetch=(python3 -c 'import sys, urllib.request as request
sys.stdout.write(request.urlopen(sys.argv[1]).read().decode())')

if wants python || wants node || wants lua; then
    read -r http https ws wss < <(free_ports 4)
    read -r node nchan < <(free_ports 2)
    sed "s|@MODULE@|$module|; s|@HTTP_PORT@|$http|; s|@HTTPS_PORT@|$https|" \
        "$here/nginx.conf" > "$work/nginx.conf"
    start "$http" "$work/nginx.log" \
        "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$work/nginx.conf"
    target=("ws://127.0.0.1:$http" "wss://127.0.0.1:$https" "$work/cert.pem")
    if wants python; then client python "$work/venv/bin/python" "$here/echo.py" "${target[@]}"; fi
    if wants node; then client node node "$here/echo.cjs" "${target[@]}"; fi
    if wants lua; then
        start "$wss" "$work/server.log" "$work/venv/bin/python" "$here/server.py" \
            "$ws" "$wss" "$work/cert.pem" "$work/key.pem"
        until (exec 3<>"/dev/tcp/127.0.0.1/$ws") 2>/dev/null; do sleep 0.02; done
        client lua "${fetch[@]}" \
            "http://127.0.0.1:$http/client?ws=$ws&wss=$wss"
        start "$node" "$work/server-node.log" node "$here/server.cjs" "$node"
        sed "s|@PORT@|$nchan|" "$here/nchan.conf" > "$work/nchan.conf"
        start "$nchan" "$work/nchan.log" \
            "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$work/nchan.conf"
        client lua "${fetch[@]}" \
            "http://127.0.0.1:$http/deflate?python=$ws&node=$node&nchan=$nchan"
    fi
    stop_servers
    quiet_log "python, node and lua" "$work/nginx.log"
fi

if wants chromium; then
    read -r port < <(free_ports 1)
    start "$port" "$work/demo.log" env LISTEN="127.0.0.1:$port" RUN="$work/run" \
        nginx-conf/start.sh
    client chromium node "$here/browser.cjs" "http://127.0.0.1:$port/" "$work" "$chromium"
    client feed node "$here/feed.cjs" "http://127.0.0.1:$port/" "$work" "$chromium"
    client chat node "$here/chat.cjs" "http://127.0.0.1:$port/" "$work" "$chromium" "$work/run/nginx.pid"
    stop_servers
    quiet_log chromium "$work/demo.log"
fi

if wants cluster; then
    if [ -n "$(command -v redis-server valkey-server)" ]; then
        port=$(free_row 3)
        start "$port" "$work/cluster.log" env LISTEN="$port" RUN="$work/cluster" \
            nginx-conf/cluster/start.sh
        client cluster node "$here/cluster.cjs" "$port" "$work" "$chromium" "$work/cluster"
        stop_servers
        # The broker's end is worth a warning.
        grep -v 'broker main .*: connection lost' "$work/cluster.log" > "$work/cluster.rest" || true
        quiet_log cluster "$work/cluster.rest"
    else
        echo "# cluster: skipped, neither redis-server nor valkey-server is here"
    fi
fi

if wants ports; then
    read -r echo_port server_port tls_port < <(free_ports 3)
    chmod 644 "$work/key.pem"    # ports of programs are opened by workers, which run as nobody
    sed "s|@MODULE@|$module|; s|@ECHO@|$echo_port|; s|@SERVER@|$server_port|; s|@TLS@|$tls_port|" \
        "$here/ports.conf" > "$work/ports.conf"
    start "$tls_port" "$work/ports.log" \
        "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$work/ports.conf"
    for port in "$echo_port" "$server_port"; do
        until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.02; done
    done
    target=("ws://127.0.0.1:$echo_port" "ws://127.0.0.1:$server_port" "wss://127.0.0.1:$tls_port"
        "$work/cert.pem")
    client ports-python "$work/venv/bin/python" "$here/ports.py" "${target[@]}"
    client ports-node node "$here/ports.cjs" "${target[@]}" "$work" "$chromium"
    stop_servers
    quiet_log ports "$work/ports.log"
fi

if wants tarantool; then
    read -r plain_port tls_port < <(free_ports 2)
    chmod 644 "$work/key.pem"
    sed "s|@MODULE@|$module|; s|@PLAIN@|$plain_port|; s|@TLS@|$tls_port|" \
        "$here/tarantool.conf" > "$work/tarantool.conf"
    start "$tls_port" "$work/tarantool.log" \
        "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$work/tarantool.conf"
    target=("ws://127.0.0.1:$plain_port" "wss://127.0.0.1:$tls_port" "$work/cert.pem")
    client tarantool-python "$work/venv/bin/python" "$here/tarantool.py" "${target[@]}"
    client tarantool-node node "$here/tarantool.cjs" "${target[@]}"
    stop_servers
    quiet_log tarantool "$work/tarantool.log"
fi

if wants proxy; then
    read -r port ws wss node < <(free_ports 4)
    start "$wss" "$work/proxy-python.log" "$work/venv/bin/python" "$here/server.py" \
        "$ws" "$wss" "$work/cert.pem" "$work/key.pem"
    start "$node" "$work/proxy-node.log" node "$here/server.cjs" "$node"
    until (exec 3<>"/dev/tcp/127.0.0.1/$ws") 2>/dev/null; do sleep 0.02; done
    sed "s|@MODULE@|$module|; s|@PORT@|$port|; s|@PYTHON@|$ws|; s|@TLS@|$wss|; s|@NODE@|$node|g" \
        "$here/proxy.conf" > "$work/proxy.conf"
    start "$port" "$work/proxy.log" \
        "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$work/proxy.conf"
    client proxy node "$here/proxy.cjs" "127.0.0.1:$port" "$chromium"
    stop_servers
    quiet_log proxy "$work/proxy.log"
fi

echo "$passed passed, $failed failed"
[ "$passed" -gt 0 ] && [ "$failed" = 0 ]
