#!/usr/bin/env bash
# Runs every fuzz target for a while; the first crash, hang or allocation beyond the limit fails.
# Usage: tools/fuzz.sh [seconds per target, 60 by default] [target ...]
# What it learns stays in fuzz/corpus; a finding is in fuzz/artifacts/TARGET and belongs, cured,
# into fuzz/seeds/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "fuzz: $*" >&2; exit 1; }

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "seconds per target: '$seconds' is no number"
shift || true

command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
command -v c++ >/dev/null || die "no C++ compiler, which libFuzzer is built with: install g++"

# The sanitizer wants a nightly compiler, or a stable one that is told to behave as such.
if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    export RUSTUP_TOOLCHAIN
    RUSTUP_TOOLCHAIN=$(rustup toolchain list | grep -o '^nightly[^ ]*' | head -1)
else
    export RUSTC_BOOTSTRAP=1
fi

known=$(cargo fuzz list)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets <<<"$known"
cargo fuzz build
for target in "${targets[@]}"; do
    grep -qx "$target" <<<"$known" || die "no target '$target'; there are: ${known//$'\n'/ }"
    echo "fuzz: $target for $seconds s"
    mkdir -p "fuzz/corpus/$target"
    # 16 MB in one piece is far above every limit that the targets set.
    cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=16 \
        -print_final_stats=1 -verbosity=0 ||
        die "$target ended before its time; if it found something, that is in fuzz/artifacts/$target"
done
echo "fuzz: ${#targets[@]} targets, $seconds s each, nothing found"
