#!/usr/bin/env bash
# Prepares nginx's headers for the build: prints two lines, NGINX_SOURCE_DIR=... and NGINX_BUILD_DIR=...
# Debian's nginx-dev ships sources' headers and `configure` but no objs/; configuring into a folder of
# ours leaves the package's own folder untouched. NGINX_SOURCE_DIR given: it is used as it is, and so
# is NGINX_BUILD_DIR (SOURCE/objs by default). An nginx that is too old is refused here.
# Usage: tools/nginx-headers.sh OUTDIR
set -euo pipefail
out=$1
die() { echo "nginx-headers: $*" >&2; exit 1; }

src=${NGINX_SOURCE_DIR:-/usr/share/nginx/src}
header=$src/src/core/nginx.h
if [ ! -f "$header" ]; then
    [ -n "${NGINX_SOURCE_DIR:-}" ] || die "$src is missing (Debian package nginx-dev)"
    die "NGINX_SOURCE_DIR=$src has no src/core/nginx.h: it must be nginx's source tree"
fi
version=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' "$header")
number=$(sed -n 's/^#define nginx_version *//p' "$header")
[ "${number:-0}" -ge 1022000 ] || die "nginx $version is too old: 1.22 or newer is needed"

if [ -n "${NGINX_SOURCE_DIR:-}" ]; then
    bd=${NGINX_BUILD_DIR:-$src/objs}
    [ -f "$bd/ngx_auto_config.h" ] ||
        die "$bd has no ngx_auto_config.h: run nginx's ./configure --with-compat there first"
    grep -q '^#define NGX_HTTP_SSL ' "$bd/ngx_auto_config.h" ||
        die "$bd was configured without --with-http_ssl_module, whose functions the module calls"
    printf 'NGINX_SOURCE_DIR=%s\nNGINX_BUILD_DIR=%s\n' "$src" "$bd"
    exit 0
fi

[ -f $src/conf_flags ] || die "$src/conf_flags is missing (Debian package nginx-dev)"
running=$(PATH=$PATH:/usr/sbin nginx -v 2>&1 | sed -n 's|^nginx version: nginx/\([0-9.]*\).*|\1|p') || true
[ -z "$running" ] || [ "$running" = "$version" ] ||
    echo "nginx-headers: nginx here is $running, nginx-dev is $version: $running will refuse the module" >&2

mkdir -p "$out" && out=$(cd "$out" && pwd)
stamp=$out/version
if [ ! -f "$out/ngx_auto_config.h" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$version" ]; then
    # shellcheck disable=SC1091
    (cd $src && . ./conf_flags && ./configure --with-cc-opt="-g -O2 -fPIC" "${NGX_CONF_FLAGS[@]}" \
        --builddir="$out") >"$out/configure.log" 2>&1 || die "configure failed, see $out/configure.log"
    echo "$version" >"$stamp"
fi
printf 'NGINX_SOURCE_DIR=%s\nNGINX_BUILD_DIR=%s\n' "$src" "$out"
