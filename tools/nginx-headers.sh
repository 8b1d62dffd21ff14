#!/usr/bin/env bash
# Prepares nginx's headers for the build: prints two lines, NGINX_SOURCE_DIR=... and NGINX_BUILD_DIR=...
# Debian's nginx-dev ships sources' headers and `configure` but no objs/; configuring into a folder of
# ours leaves the package's own folder untouched. Both variables given: they are used as they are.
# Usage: tools/nginx-headers.sh OUTDIR
set -euo pipefail
out=$1

if [ -n "${NGINX_SOURCE_DIR:-}" ]; then
    bd=${NGINX_BUILD_DIR:-$NGINX_SOURCE_DIR/objs}
    [ -f "$bd/ngx_auto_config.h" ] || {
        echo "nginx-headers: $bd has no ngx_auto_config.h: run nginx's ./configure --with-compat there first" >&2
        exit 1
    }
    printf 'NGINX_SOURCE_DIR=%s\nNGINX_BUILD_DIR=%s\n' "$NGINX_SOURCE_DIR" "$bd"
    exit 0
fi

src=/usr/share/nginx/src
[ -f $src/conf_flags ] || { echo "nginx-headers: $src is missing (Debian package nginx-dev)" >&2; exit 1; }
mkdir -p "$out" && out=$(cd "$out" && pwd)
stamp=$out/version
version=$(sed -n 's/^#define NGINX_VERSION *//p' $src/src/core/nginx.h)
if [ ! -f "$out/ngx_auto_config.h" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$version" ]; then
    # shellcheck disable=SC1091
    (cd $src && . ./conf_flags && ./configure --with-cc-opt="-g -O2 -fPIC" "${NGX_CONF_FLAGS[@]}" \
        --builddir="$out") >"$out/configure.log" 2>&1 ||
        { echo "nginx-headers: configure failed, see $out/configure.log" >&2; exit 1; }
    echo "$version" >"$stamp"
fi
printf 'NGINX_SOURCE_DIR=%s\nNGINX_BUILD_DIR=%s\n' $src "$out"
