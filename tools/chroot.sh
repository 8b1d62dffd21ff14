# Debian in a folder: what tools/fresh.sh, tools/matrix.sh, tools/test-deb.sh and tools/test-image.sh share. Sourced by
# them, from the repository's root. A chroot is made anew each time from a base that debootstrap has
# left in build/chroots (for a week); apt's archives are kept there too. The machine's mirror, CA
# certificates, proxies and cargo's configuration are taken over, so that a chroot reaches
# what the machine reaches. Mounts live in a namespace of each command's own: nothing is left behind.
# shellcheck shell=bash

chroots=$PWD/build/chroots
home=/root
# Progress goes beside what a command prints for others to keep.
say() { echo "${0##*/}: $*" >&2; }
die() { echo "${0##*/}: $*" >&2; exit 1; }

# What this needs of the machine; to be called first.
chroot_prepare() {
    [ "$(id -u)" = 0 ] || die "only root can make a chroot"
    tools/deps.sh chroot
    unshare --mount --pid --net --fork true 2>/dev/null || die "this machine allows no namespaces"
    mkdir -p "$chroots"
}

# chroot_lock SUITE: one run at a time for each suite; the lock goes with this process.
chroot_lock() {
    local lock
    exec {lock}>"$chroots/lock-$1"
    flock -n "$lock" || { say "waiting for another run with $1"; flock "$lock"; }
}

# The machine's mirror for Debian, or for its security updates ("debian-security").
mirror_of() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n "\\|/$1/*\$|{p;q}"
}

base_of() { # base_of SUITE: makes build/chroots/base-SUITE.tar
    local suite=$1 tar=$chroots/base-$1.tar root=$chroots/base-$1 mirror security
    [ -z "$(find "$tar" -mtime -7 2>/dev/null)" ] || return 0
    mirror=$(mirror_of debian)
    # An image may come without apt's lists.
    [ -n "$mirror" ] || { apt-get update -q >/dev/null 2>&1 && mirror=$(mirror_of debian); } || true
    [ -n "$mirror" ] || die "apt knows no Debian mirror"
    security=$(mirror_of debian-security)
    say "debootstrap $suite"
    umount "$root" 2>/dev/null || true
    rm -rf "$root"
    mkdir -p "$chroots/debs" "$root"
    # In memory where there is enough: dpkg waits for the disk after each of a thousand files.
    [ "$(awk '/^MemAvailable:/{print $2}' /proc/meminfo)" -lt 4000000 ] ||
        mount -t tmpfs tmpfs "$root" 2>/dev/null || true
    debootstrap --variant=minbase --cache-dir="$chroots/debs" "$suite" "$root" "$mirror" \
        >"$root.log" 2>&1 || { umount "$root" 2>/dev/null; die "debootstrap failed, see $root.log"; }
    {
        echo "deb $mirror $suite main"
        echo "deb-src $mirror $suite main"
        if [ "$suite" != sid ]; then
            echo "deb $mirror $suite-updates main"
            [ -z "$security" ] || echo "deb $security $suite-security main"
            [ -z "$security" ] || echo "deb-src $security $suite-security main"
        fi
    } >"$root/etc/apt/sources.list"
    # Settings of the machine's apt that say how archives are reached.
    apt-config dump Acquire | grep -E '^Acquire::(http|Check-|Retries|ForceIP)' \
        >"$root/etc/apt/apt.conf.d/90machine" || true
    echo 'APT::Keep-Downloaded-Packages "true";' >>"$root/etc/apt/apt.conf.d/90machine"
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    [ ! -f /etc/ssl/certs/ca-certificates.crt ] ||
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/machine-ca.crt"
    local config=${CARGO_HOME:-$HOME/.cargo}/config.toml
    [ ! -f "$config" ] || install -D -m 600 "$config" "$root$home/.cargo/config.toml"
    tar -C "$root" -cf "$tar.new" . && mv "$tar.new" "$tar"
    umount "$root" 2>/dev/null || true
    rm -rf "$root"
}

# chroot_new SUITE NAME: a new system in build/chroots/NAME, whose path is then in $chroot.
chroot_new() {
    base_of "$1"
    chroot=$chroots/$2
    rm -rf "$chroot"
    mkdir -p "$chroot" "$chroots/apt-$1/partial"
    tar -C "$chroot" -xf "$chroots/base-$1.tar"
    in_chroot apt-get update -q >"$chroot.log" 2>&1 || die "apt-get update failed, see $chroot.log"
}

# in_chroot [--offline] COMMAND...: runs it as root in $chroot, in the folder $inside; --offline: in a
# network namespace that has loopback only.
inside=/
in_chroot() {
    local net=() suite
    if [ "$1" = --offline ]; then net=(--net); shift; fi
    suite=$(sed -n '1s/.* \(.*\) main/\1/p' "$chroot/etc/apt/sources.list")
    local variables=(HOME=$home LANG=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    local name
    if [ -f "$chroot/etc/machine-ca.crt" ]; then
        for name in SSL_CERT_FILE CURL_CA_BUNDLE CARGO_HTTP_CAINFO PIP_CERT NODE_EXTRA_CA_CERTS; do
            variables+=("$name=/etc/machine-ca.crt")
        done
    fi
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL \
        PIP_DEFAULT_TIMEOUT NPM_CONFIG_REGISTRY T "${!CARGO_PROFILE_@}"; do
        [ -z "${!name:-}" ] || variables+=("$name=${!name}")
    done
    unshare --mount --pid --fork --kill-child "${net[@]}" bash -euc '
        root=$1 archives=$2 inside=$3; shift 3
        if [ "$1" = --net ]; then ip link set lo up; shift; fi
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$archives" "$root/var/cache/apt/archives"
        exec chroot "$root" env -C "$inside" -i "$@"' \
        in_chroot "$chroot" "$chroots/apt-$suite" "$inside" "${net[@]}" "${variables[@]}" "$@"
}

# chroot_clone: a clone of the repository, as it is committed, in $chroot and in $inside.
chroot_clone() {
    inside=/srv/nginx-lua-websocket
    rm -rf "$chroot$inside"
    git clone -q --no-hardlinks . "$chroot$inside"
    chown -R root: "$chroot$inside"
}
