#!/usr/bin/env bash
# The life of the package: built in a chroot of its suite by `make deb`, judged by lintian, then
# installed in a second, empty chroot by `apt install ./...deb`, where nginx runs as Debian starts it;
# used after a reload, upgraded under a running nginx, switched off by the administrator, removed and
# purged. All of it without network once apt has downloaded what the package depends on.
# Usage: tools/test-deb.sh [SUITE]   default: bookworm
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/chroot.sh
. tools/chroot.sh

suite=${1:-bookworm}
log=$chroots/deb-$suite.log
logged() { "$@" >>"$log" 2>&1 || { tail -n 25 "$log" >&2; die "$suite: \"$*\" failed, see $log"; }; }

chroot_prepare
chroot_lock "$suite"
: >"$log"
chroot_new "$suite" "deb-$suite"
logged in_chroot apt-get install -y -q --no-install-recommends git make
chroot_clone
logged in_chroot tools/deps.sh build deb
logged in_chroot apt-get install -y -q --no-install-recommends lintian
say "$suite: a chroot to build in ($SECONDS s)"
logged in_chroot --offline make deb
package=$(cd "$chroot$inside/build" && ls libnginx-mod-http-lua-websocket_*.deb)
logged in_chroot --offline lintian --fail-on error "build/$package"
grep '^[EW]: ' "$log" || true
cp "$chroot$inside/build/$package" build/

# The same contents as the next revision, to be upgraded to.
in_chroot --offline bash -euc '
    dpkg-deb -R "build/$0" build/next
    sed -i "s/^Version: .*/&+next1/" build/next/DEBIAN/control
    dpkg-deb --root-owner-group -b build/next build/next.deb' "$package" >>"$log"
cp "$chroot$inside/build/next.deb" "$chroots/next-$suite.deb"
rm -rf "$chroot"
say "$suite: build/$package is built ($SECONDS s)"

inside=/srv
chroot_new "$suite" "deb-$suite"
logged in_chroot apt-get install -y -q --no-install-recommends python3
cp "build/$package" "$chroot/srv/$package"
cp "$chroots/next-$suite.deb" "$chroot/srv/next.deb"
mkdir "$chroot/srv/lib"
cp t/lib/{echo,peer,live}.py "$chroot/srv/lib/"
cp tools/deb-life.sh "$chroot/srv/"
logged in_chroot apt-get install -y -q --download-only "./$package"
in_chroot --offline bash deb-life.sh "$package" || die "$suite: failed"
rm -rf "$chroot" "$chroots/next-$suite.deb"
say "$suite: done in $SECONDS s"
