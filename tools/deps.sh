#!/usr/bin/env bash
# Installs what a target needs and the machine lacks. Usage: tools/deps.sh build|test|clients|check
# Debian package names; each is looked for first, so that a complete machine is left alone
# and needs neither network nor root.
set -euo pipefail

die() { echo "deps: $*" >&2; exit 1; }

build=(nginx-light:nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache nginx-dev libclang-dev
       gcc make pkg-config libssl-dev libpcre2-dev zlib1g-dev)
test=(libtest-base-perl perl openssl python3 curl)
valgrind=(valgrind)

want=()
for group in "$@"; do
    case $group in
        build) want+=("${build[@]}") ;;
        test) want+=("${build[@]}" "${test[@]}") ;;
        valgrind) want+=("${build[@]}" "${test[@]}" "${valgrind[@]}") ;;
        *) die "unknown group '$group' (build, test, valgrind)" ;;
    esac
done

installed() { [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

if ! command -v cargo >/dev/null; then
    die "no Rust toolchain: install one with cargo 1.88 or newer (https://rustup.rs), then run this again"
fi
command -v dpkg-query >/dev/null || { echo "deps: not a Debian system, packages are left to you" >&2; exit 0; }

missing=()
for item in "${want[@]}"; do
    pkg=${item%%:*} alt=${item#*:}
    installed "$pkg" || installed "$alt" || missing+=("$pkg")
done
[ ${#missing[@]} -eq 0 ] && exit 0

[ "$(id -u)" = 0 ] || die "these packages are missing, and only root can install them: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${missing[*]}"
# Debian starts a freshly installed nginx on port 80 as a service; this answer keeps it stopped.
guard=/usr/sbin/policy-rc.d
if [ ! -e $guard ]; then
    printf '#!/bin/sh\nexit 101\n' >$guard && chmod +x $guard
    trap 'rm -f $guard' EXIT
fi
apt-get update -q >/dev/null || die "apt-get update failed (no network?)"
apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
