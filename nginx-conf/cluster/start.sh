#!/usr/bin/env bash
# Three machines in one: the demo of nginx-conf/start.sh three times, each an nginx with a zone of its own,
# over one Redis. What is said in the chat or comes in the feed on one is there on all; kill one, and its
# visitors go on elsewhere from where they were. Ctrl-C ends all. `make run-cluster` calls it.
#   LISTEN=PORT        the first of the three ports (8081)
#   RUN=FOLDER         another folder than build/run/cluster for what they write
#   MODULE, NGINX_BIN  as for nginx-conf/start.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
first=${LISTEN:-8081}
run=${RUN:-build/run/cluster}
redis=$(command -v redis-server || command -v valkey-server) || {
    echo "neither redis-server nor valkey-server is here (apt-get install redis-server)" >&2
    exit 1
}
mkdir -p "$run"
# A socket's path is short, and is no other nginx's.
sockets=$(mktemp -d)
children=()
end() {
    trap - EXIT INT TERM
    kill "${children[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$sockets"
}
trap end EXIT
trap 'exit 130' INT TERM

chmod 755 "$sockets"
"$redis" --port 0 --unixsocket "$sockets/redis" --unixsocketperm 777 --save '' --appendonly no \
    --dir "$sockets" >"$run/redis.log" 2>&1 &
children+=($!)
echo $! >"$run/redis.pid"
for n in 0 1 2; do
    mkdir -p "$run/$n"
    printf 'websocket_broker main { server unix:%s; reconnect max=500ms; }\n' "$sockets/redis" >"$run/$n/broker.conf"
    LISTEN=127.0.0.1:$((first + n)) RUN=$run/$n nginx-conf/start.sh &
    children+=($!)
done
# The first that ends is not the end of the others: that is what is to be seen.
wait
