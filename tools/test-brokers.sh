#!/usr/bin/env bash
# What `make test-brokers` does once the module is built: t/hub/broker*.t (or the files given) over real
# servers. Those that cannot be had are named, and their tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/deps.sh brokers || true
have=$(command -v redis-server valkey-server || true)
[ -n "$have" ] || { echo "test-brokers: SKIPPED: neither redis-server nor valkey-server is here"; exit 0; }
(($#)) || set -- t/hub/broker*.t
t/prove.sh "$@"
