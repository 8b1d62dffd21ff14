#!/usr/bin/env bash
# The Debian package of the module that `make build` has left in build/, for the suite this machine
# runs: a module fits one version of nginx only. The version is that of debian/changelog and, on a
# stable release, its number (0.2.0-1~deb12). Leaves build/libnginx-mod-http-lua-websocket_*.deb.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "deb: $*" >&2; exit 1; }

module=$PWD/build/ngx_http_lua_websocket_module.so
[ -f "$module" ] || die "no $module: run \"make build\" first"
[ -z "${NGINX_SOURCE_DIR:-}" ] || die "a package is for Debian's nginx: unset NGINX_SOURCE_DIR"
tools/deps.sh deb

version=$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
crate=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
[ "${version%-*}" = "$crate" ] || die "debian/changelog is at $version, Cargo.toml at $crate"

work=$PWD/build/deb/nginx-lua-websocket
rm -rf build/deb build/libnginx-mod-http-lua-websocket*.deb
mkdir -p "$work"
cp -r debian docs lua nginx-conf README.md SECURITY.md CHANGELOG.md "$work/"
# shellcheck disable=SC1091
release=$(. /etc/os-release && echo "${VERSION_ID:-}")
[ -z "$release" ] || sed -i "1s/($version)/($version~deb$release)/" "$work/debian/changelog"

cd "$work"
MODULE=$module dpkg-buildpackage -b -us -uc >../log 2>&1 ||
    { tail -n 20 ../log >&2; die "dpkg-buildpackage failed, see build/deb/log"; }
cd ../../..
mv build/deb/libnginx-mod-http-lua-websocket*.deb build/
echo "built $(ls build/libnginx-mod-http-lua-websocket_*.deb)"
