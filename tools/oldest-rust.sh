#!/usr/bin/env bash
# The smallest Rust that Cargo.toml names, tried: it checks the module and the crates. A compiler knows
# what a lint of a newer one does not (which borrows of temporaries it extends, what it infers).
# Usage: tools/oldest-rust.sh [--install]   without --install only where rustup has that toolchain
set -euo pipefail
cd "$(dirname "$0")/.."

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml).0
if ! rustup run "$oldest" rustc --version >/dev/null 2>&1; then
    if [ "${1:-}" != --install ]; then
        echo "oldest Rust: $oldest is not installed and was not tried (make test-rust)"
        exit 0
    fi
    command -v rustup >/dev/null || { echo "oldest Rust: needs rustup (https://rustup.rs)" >&2; exit 1; }
    rustup toolchain install "$oldest" --profile minimal --no-self-update
fi
lines=$(tools/nginx-headers.sh build/nginx)
# shellcheck disable=SC2163
while read -r line; do export "$line"; done < <(tr ' ' '\n' <<<"$lines")
CARGO_TARGET_DIR=target/oldest cargo "+$oldest" check -q --locked --workspace
echo "oldest Rust: $oldest builds"
