#!/usr/bin/env bash
# The versions the module runs on, by trial: for each suite of Debian a new chroot, a build against
# that suite's nginx and the whole of t/ in it, without network; and the same for nginx 1.28 built as
# OpenResty is: ngx_lua, ndk and OpenResty's LuaJIT (GC64) linked in, resty.core beside it, release flags,
# a version with a fourth number. It is made from the sources that crates.io (nginx-src) and Debian publish;
# and beside it an nginx of the same version with one field more in a struct, which must refuse the module. A row that passed is kept in build/matrix, and the table in docs/installing.md is written from what is
# kept, between its two marks.
# Usage: tools/matrix.sh [bookworm|trixie|static|sid ...]   default: all
#   T="t/server/*.t"  some files, which then is a trial and no row
#   REUSE=1      goes on in the systems that failed runs have left, with the clone brought up to date
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/chroot.sh
. tools/chroot.sh

ALL=(bookworm trixie static sid)
STATIC_SUITE=trixie
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=("${ALL[@]}")

name_of() {
    case $1 in
        bookworm) echo "Debian 12" ;;
        trixie) echo "Debian 13" ;;
        sid) echo "Debian sid" ;;
        static) echo "nginx built as OpenResty is, on Debian 13" ;;
        *) die "unknown row '$1' (${ALL[*]})" ;;
    esac
}
for row in "${rows[@]}"; do name_of "$row" >/dev/null; done

# step NAME COMMAND...: what it says goes to a log; false and the log's end if it fails
step() {
    local out=$chroots/matrix-$row.$1.log
    shift
    "$@" >"$out" 2>&1 || { tail -n 15 "$out" >&2; say "$row: \"$*\" failed, see $out" >&2; return 1; }
}

# nginx 1.28, ngx_lua and LuaJIT in one binary, /srv/static/nginx/objs/nginx of the chroot; in
# /srv/static/other the same with a field added by a patch of ours.
build_static() {
    in_chroot bash -euc '
        rm -rf /srv/static
        mkdir -p /srv/static/crate/src
        cd /srv/static
        touch crate/src/lib.rs
        printf "[package]\nname=\"x\"\nversion=\"0.0.0\"\n[dependencies]\nnginx-src = \"~1.28\"\n" \
            >crate/Cargo.toml
        (cd crate && cargo vendor -q >/dev/null)
        cp -r crate/vendor/nginx-src/nginx nginx
        apt-get install -y -q --no-install-recommends dpkg-dev
        unpack() { # unpack FOLDER SOURCE
            mkdir $1
            apt-get source -q --tar-only $2
            tar -C $1 --strip 1 -xf ${2}_*.orig.tar.*
        }
        unpack luajit luajit
        unpack ngx_ndk libnginx-mod-http-ndk
        unpack ngx_lua libnginx-mod-http-lua
        unpack core lua-resty-core
        unpack lrucache lua-resty-lrucache
        make -C luajit -j"$(nproc)" amalg PREFIX=/srv/static/run/luajit
        make -C luajit install PREFIX=/srv/static/run/luajit
        rm -f run/luajit/lib/*.so*
        cp -r core/lib/* lrucache/lib/* run/luajit/share/lua/5.1/
        export LUAJIT_LIB=/srv/static/run/luajit/lib
        export LUAJIT_INC=$(echo /srv/static/run/luajit/include/luajit-2.*)
        sed -i "s|\"nginx/\" NGINX_VERSION|\"openresty/\" NGINX_VERSION \".1\"|" nginx/src/core/nginx.h
        (cd nginx && auto/configure --prefix=/srv/static/run --with-compat --with-threads \
            --with-cc-opt="-O2" --with-ld-opt="-ldl -lm" \
            --with-http_ssl_module --with-http_v2_module --with-http_realip_module \
            --with-http_stub_status_module --with-http_addition_module --with-http_gunzip_module \
            --with-http_auth_request_module --add-module=../ngx_ndk --add-module=../ngx_lua)
        cp -r nginx other
        make -C nginx -j"$(nproc)"
        field="    ngx_table_elt_t                  *added;"
        sed -i "/^ *ngx_table_elt_t  *\*connection;/i $field" other/src/http/ngx_http_request.h
        grep -q "\*added;" other/src/http/ngx_http_request.h
        make -C other -j"$(nproc)"
        # Another patch level with the same structs.
        sed "s|openresty/\([0-9.]*\)\.1|openresty/\1.2|g" nginx/objs/nginx >other/objs/level
        chmod +x other/objs/level'
}

# Both refuse the module in words; nginx itself sees nothing.
refuse_static() {
    in_chroot bash -euc '
        cd /srv/static/other
        mkdir -p logs
        printf "%s\n" "load_module $0;" "events {}" "http { server { listen 8099; } }" >conf/other.conf
        refused() { # refused BINARY TEXT
            if said=$("$1" -t -p "$PWD" -c conf/other.conf 2>&1); then
                echo "$1 takes the module"; exit 1
            fi
            echo "$said"
            grep -qF "nginx-lua-websocket was built for another nginx ($2): build it again" <<<"$said"
        }
        refused objs/nginx "headers_in lies elsewhere"
        refused objs/level "it is not openresty/$(objs/nginx -v 2>&1 | sed "s|.*/||")"
        "../nginx/objs/nginx" -t -p "$PWD" -c conf/other.conf' \
        /srv/nginx-lua-websocket/build/ngx_http_lua_websocket_module.so
}

# The row of the table, or nothing where something failed; details go to standard error.
run_row() {
    local suite=$1 files tests environment=() nginx=/usr/sbin/nginx lua result
    if [ "$row" = static ]; then
        suite=$STATIC_SUITE
        nginx=/srv/static/nginx/objs/nginx
        environment=(NGINX_SOURCE_DIR=/srv/static/nginx TEST_NGINX_BINARY=$nginx
            TEST_NGINX_LOAD_MODULES=/srv/nginx-lua-websocket/build/ngx_http_lua_websocket_module.so)
    fi
    chroot_lock "$suite"
    if [ "$row" = static ] && [ -n "$reusable" ]; then
        chroot=$chroots/matrix-$STATIC_SUITE
        inside=/srv/nginx-lua-websocket
    elif [ -n "${REUSE:-}" ] && [ -d "$chroots/matrix-$row/srv/nginx-lua-websocket" ]; then
        chroot=$chroots/matrix-$row
        inside=/srv/nginx-lua-websocket
        git -C "$chroot$inside" fetch -q "$PWD" HEAD
        git -C "$chroot$inside" reset -q --hard FETCH_HEAD
        step deps in_chroot tools/deps.sh build test || return 1
    else
        chroot_new "$suite" "matrix-$row"
        step tools in_chroot apt-get install -y -q --no-install-recommends git make || return 1
        chroot_clone
        step deps in_chroot tools/deps.sh build test || return 1
    fi
    if [ "$row" = static ] && [ ! -x "$chroot$nginx" ]; then step nginx build_static || return 1; fi
    step build in_chroot --offline "${environment[@]}" make build || return 1
    if [ "$row" = static ]; then step other refuse_static || return 1; fi
    # shellcheck disable=SC2086
    step test in_chroot --offline "${environment[@]}" t/prove.sh ${T:-} || return 1
    files=$(sed -n 's/^Files=\([0-9]*\),.*/\1/p' "$chroots/matrix-$row.test.log")
    tests=$(sed -n 's/^Files=.*Tests=\([0-9]*\),.*/\1/p' "$chroots/matrix-$row.test.log")
    result=$(in_chroot "$nginx" -v 2>&1 | sed 's|^nginx version: [a-z]*/||; s| .*||')
    if [ "$row" = static ]; then
        lua="$(in_chroot sed -n 's/^#define ngx_http_lua_version *//p' \
            /srv/static/ngx_lua/src/api/ngx_http_lua_api.h)"
        lua="$((lua / 1000000)).$((lua / 1000 % 1000)).$((lua % 1000)), linked in with LuaJIT"
    else
        lua=$(in_chroot dpkg-query -W -f='${Version}' libnginx-mod-http-lua |
            sed 's/^[0-9]*://; s/-[^-]*$//')
    fi
    echo "| $(name_of "$row") | $result | $lua |" \
        "$(in_chroot rustc --version | cut -d' ' -f2) | $files files, $tests tests |"
}

chroot_prepare
kept=$PWD/build/matrix
mkdir -p "$kept"
failed=()
reusable=
for row in "${rows[@]}"; do
    begun=$SECONDS
    if line=$(run_row "$row"); then
        # The next row may go on in this one's system, whose packages and crates are there.
        reusable=$([ "$row" != $STATIC_SUITE ] || echo yes)
        [ -n "$reusable" ] || rm -rf "$chroots/matrix-$row" "$chroots/matrix-$STATIC_SUITE"
        say "$line ($((SECONDS - begun)) s)"
        [ -n "${T:-}" ] || echo "$line" >"$kept/$row"
    else
        failed+=("$row")
        reusable=
        rm -f "$kept/$row"
        say "$row: FAILED after $((SECONDS - begun)) s"
    fi
done

table="| system | nginx | ngx_lua | Rust | passed |
|---|---|---|---|---|"
for row in "${ALL[@]}"; do
    [ ! -f "$kept/$row" ] || table+=$'\n'$(cat "$kept/$row")
done
if [ -z "${T:-}" ]; then
    TABLE=$table python3 - <<'PYTHON'
import os, re
page = "docs/installing.md"
text = open(page).read()
marked = re.compile(r"(<!-- made by make matrix -->\n).*?(<!-- end -->)", re.S)
assert marked.search(text), f"{page} has no marks for the table"
new = marked.sub(lambda m: f"{m[1]}\n{os.environ['TABLE']}\n\n{m[2]}", text)
open(page, "w").write(new)
PYTHON
    say "the table in docs/installing.md is written"
fi
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
