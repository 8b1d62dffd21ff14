#!/usr/bin/env bash
# Installs what a target needs and the machine lacks. Usage: tools/deps.sh GROUP...
# Debian package names; each is looked for first, so that a complete machine is left alone and needs
# neither network nor root. Whatever cannot work (no network, an nginx or a Rust that is too old) is
# said in one line before anything is changed. Crates are fetched too, so that a build cannot stop in the
# middle for want of a network. On other systems only the toolchain is looked at.
#   DEPS_LOG=FILE   what apt says, which is not shown otherwise
set -euo pipefail

RUST=1.88          # what mlua 0.12 asks for
NGINX=1.22
NGX_LUA=0.10.19

said=${DEPS_LOG:-/dev/null}

die() { echo "deps: $*" >&2; exit 1; }

toolchain=(gcc libclang-dev pkgconf:pkg-config make)
# What nginx's headers include, and what its configure (OpenResty's) asks for.
headers=(perl libssl-dev libpcre2-dev zlib1g-dev)
nginx=(nginx-light:nginx libnginx-mod-http-lua lua-resty-core lua-resty-lrucache nginx-dev
       "${headers[@]}")
# With NGINX_SOURCE_DIR nginx is the caller's own, and none is installed beside it.
[ -z "${NGINX_SOURCE_DIR:-}" ] || nginx=("${headers[@]}")
test=(libtest-base-perl perl openssl python3 curl)
brokers=(redis-server redis-sentinel nats-server)

groups=("$@")
want=()
for group in "${groups[@]}"; do
    case $group in
        build) want+=("${toolchain[@]}" "${nginx[@]}") ;;
        test) want+=("${toolchain[@]}" "${nginx[@]}" "${test[@]}") ;;
        valgrind) want+=("${toolchain[@]}" "${nginx[@]}" "${test[@]}" valgrind) ;;
        brokers) want+=("${brokers[@]}") ;;
        deb) want+=("${toolchain[@]}" "${nginx[@]}" build-essential dpkg-dev debhelper) ;;
        chroot) want+=(debootstrap git iproute2 util-linux) ;;
        *) die "unknown group '$group' (build, test, brokers, valgrind, deb, chroot)" ;;
    esac
done

mapfile -t want < <(printf '%s\n' "${want[@]}" | awk 'NF && !seen[$0]++')

# at_least VERSION SMALLEST
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1)" = "$2" ]; }

rust_version() { cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p'; }
# rustup leaves a cargo that knows no version where it has no toolchain.
has_rust() { [ -n "$(rust_version)" ] && at_least "$(rust_version)" $RUST; }
no_rust() {
    if [ -n "$(rust_version)" ]; then
        die "cargo $(rust_version) is too old: $RUST or newer is needed (https://rustup.rs)"
    fi
    die "no Rust toolchain: install one with cargo $RUST or newer (https://rustup.rs), then run this again"
}

# The crates of Cargo.lock, so that a build that has begun needs no network. Where the script stands
# alone, as in a Dockerfile's first layer, there is no lock file yet.
fetch_crates() {
    local root log host
    root=$(cd "$(dirname "${BASH_SOURCE[0]:-.}")/.." && pwd)
    [[ " ${groups[*]} " =~ \ (build|test|valgrind|deb)\  ]] && [ -f "$root/Cargo.lock" ] || return 0
    host=$(rustc -vV | sed -n 's/^host: //p')
    log=$(cd "$root" && cargo fetch -q --locked --target "$host" 2>&1) ||
        die "crates cannot be fetched (no network?): $(grep -v '^ *Caused by\|^$' <<<"$log" | tail -1 | sed 's/^ *//')"
}

if ! command -v dpkg-query >/dev/null; then
    has_rust || no_rust
    fetch_crates
    echo "deps: not a Debian system, packages are left to you" >&2
    exit 0
fi

# Asked once for all: dpkg reads its whole database each time.
# shellcheck disable=SC2086,SC2048
present=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' ${want[*]//:/ } 2>/dev/null |
    sed -n 's/^ii *//p' | tr '\n' ' ')" || true
installed() { [[ $present == *" $1 "* ]]; }

missing=()
for item in "${want[@]}"; do
    pkg=${item%%:*} alt=${item#*:}
    installed "$pkg" || installed "$alt" || missing+=("$pkg")
done
rust=0
has_rust || rust=1

# Without epoch and revision: 1:0.10.23-1+deb12u1 is 0.10.23.
upstream() { sed 's/^[0-9]*://; s/-[^-]*$//' <<<"$1"; }
check_version() { # check_version PACKAGE SMALLEST NAME VERSION
    [ -n "$4" ] && [ "$4" != "(none)" ] ||
        die "this Debian has no package $1: Debian 12 or newer is needed"
    at_least "$(upstream "$4")" "$2" || die "$3 $(upstream "$4") is too old: $2 or newer is needed"
}
check_nginx() { # check_nginx VERSION_OF: a command that prints a package's version
    [[ " ${want[*]} " == *" nginx-dev "* ]] || return 0
    check_version nginx-dev $NGINX nginx "$("$1" nginx-dev)"
    check_version libnginx-mod-http-lua $NGX_LUA ngx_lua "$("$1" libnginx-mod-http-lua)"
}
here() { dpkg-query -W -f='${Version}' "$1"; }
offered() { # what is installed, or would be
    local version
    version=$(LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Installed: //p')
    [ -n "$version" ] && [ "$version" != "(none)" ] ||
        version=$(LC_ALL=C apt-cache policy "$1" | sed -n 's/^  Candidate: //p')
    echo "$version"
}

if [ ${#missing[@]} -eq 0 ] && [ $rust = 0 ]; then
    check_nginx here
    fetch_crates
    exit 0
fi

[ ${#missing[@]} -eq 0 ] || [ "$(id -u)" = 0 ] ||
    die "these packages are missing, and only root can install them: ${missing[*]}"
[ "$(id -u)" = 0 ] || no_rust
apt-get update -q -o APT::Update::Error-Mode=any >"$said" 2>&1 ||
    die "apt-get update failed (no network?); missing: ${missing[*]:-}$([ $rust = 0 ] || echo " cargo")"
check_nginx offered
if [ $rust = 1 ]; then
    # Debian's stable releases carry a newer Rust than their own under the names of its web packages.
    if at_least "$(upstream "$(offered cargo)")" $RUST; then
        missing+=(cargo rustc)
    elif at_least "$(upstream "$(offered cargo-web)")" $RUST && ! command -v cargo >/dev/null; then
        missing+=(cargo-web rustc-web)
    else
        no_rust
    fi
fi

export DEBIAN_FRONTEND=noninteractive
echo "deps: installing ${missing[*]}"
# Debian starts a freshly installed nginx on port 80 as a service; this answer keeps it stopped.
guard=/usr/sbin/policy-rc.d
if [ ! -e $guard ]; then
    printf '#!/bin/sh\nexit 101\n' >$guard && chmod +x $guard
    trap 'rm -f $guard' EXIT
fi
apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$said" ||
    die "apt-get could not install: ${missing[*]}"
fetch_crates
