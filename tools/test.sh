#!/usr/bin/env bash
# What `make test` does once the module is built. t/*/*.t mostly waits, so the crates' own tests are
# compiled and run beside it, at low priority; what they say is shown in one piece, after it. Then
# the real clients. The first part that fails ends it; what the crates' tests say is shown in any case.
#   ASSERTIONS=1   t/*/*.t runs against the module of `make test-assertions`
set -euo pipefail
cd "$(dirname "$0")/.."

said=$(mktemp)
nice -n 19 make --no-print-directory test-unit >"$said" 2>&1 &
unit=$!
trap 'kill "$unit" 2>/dev/null || true; rm -f "$said"' EXIT

passed=yes
make --no-print-directory "$([ -n "${ASSERTIONS:-}" ] && echo test-assertions || echo test-nginx)" || passed=no
wait "$unit" || passed=no
cat "$said"
[ "$passed" = yes ]
make --no-print-directory test-clients
