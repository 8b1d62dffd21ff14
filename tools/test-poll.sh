#!/usr/bin/env bash
# t/*/*.t where the kernel reports states, not changes: nginx with `use poll`. Then a part of it with
# `use select`, and one where every read brings a byte and every write takes a few (t/lib/drip.c).
# Usage: tools/test-poll.sh [FILE...]   QUICK=1: with poll the part only; FILEs: these, each way
set -euo pipefail
cd "$(dirname "$0")/.."

# What waits, reads and writes in every way there is; dripped: without what is about times.
part=(t/server/receive.t t/server/handshake.t t/server/control.t t/server/close.t
    t/messages/receive-messages.t t/messages/close-handshake.t t/messages/compression-offers.t
    t/hub/directives.t t/client/frames.t t/client/connect-messages.t t/compat/listener.t
    t/compat/tarantool-server.t t/compat/websockets.t)
dripped=(t/server/receive.t t/server/handshake.t t/server/control.t t/server/close.t
    t/messages/compression-offers.t t/client/frames.t t/compat/tarantool-server.t
    t/compat/websockets.t)
all=()
if (($#)); then
    part=("$@") dripped=("$@") all=("$@")
elif [ -n "${QUICK:-}" ]; then
    all=("${part[@]}")
fi

binary=$(tools/nginx-poll.sh build/nginx-poll)
cc -shared -fPIC -O2 -Wall -o build/nginx-poll/drip.so t/lib/drip.c
# A program of its own, so that nginx alone is dripped on and not what tests it.
program=build/nginx-poll/dripped
printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "$PWD/build/nginx-poll/drip.so" "$binary" >$program
chmod +x $program

run() { # run WHAT BINARY METHOD FILE...
    echo "test-poll: $1"
    TEST_NGINX_BINARY=$2 TEST_NGINX_EVENT_TYPE=$3 t/prove.sh "${@:4}"
}
run "poll" "$binary" poll "${all[@]}"
run "select" "$binary" select "${part[@]}"
run "poll, byte by byte" "$PWD/$program" poll "${dripped[@]}"
