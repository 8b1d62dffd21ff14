#!/usr/bin/env bash
# t/*/*.t (or the files given) against a module that was built to find faults by itself, apart from the
# one in build/. Usage: tools/checked.sh assertions|asan [file...]
#
#   assertions   debug assertions and overflow checks: a panic is an alert in nginx's log
#   asan         AddressSanitizer, in the module alone; nginx, ngx_lua and LuaJIT are as they are, but
#                for their malloc. Before the files a positive control shows that it detects.
#
# A stable Rust has sanitizers too, where it is told that it may (RUSTC_BOOTSTRAP); the runtime is
# gcc's, which speaks the same protocol, and is loaded into nginx only.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=$1
shift
target=x86_64-unknown-linux-gnu
modules=/usr/lib/nginx/modules
lines=$(tools/nginx-headers.sh build/nginx)
# shellcheck disable=SC2163
while read -r line; do export "$line"; done < <(tr ' ' '\n' <<<"$lines")
export CARGO_TARGET_DIR=target/$kind CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

case $kind in
assertions)
    export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
    ;;
asan)
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg asan"
    ;;
*)
    echo "$0: assertions or asan?" >&2
    exit 2
    ;;
esac
# With --target, build scripts and macros, which run while it compiles, stay as they are.
cargo build --release -q -p nginx-lua-websocket --target "$target"
module=$PWD/$CARGO_TARGET_DIR/$target/release/libngx_http_lua_websocket_module.so

TEST_NGINX_LOAD_MODULES=
for other in "$modules/ndk_http_module.so" "$modules/ngx_http_lua_module.so"; do
    [ ! -e "$other" ] || TEST_NGINX_LOAD_MODULES+="$other "
done
export TEST_NGINX_LOAD_MODULES+=$module

if [ "$kind" = asan ]; then
    said=$(mktemp -d)
    trap 'rm -rf "$said"' EXIT
    # What nginx and LuaJIT have not freed when they end is theirs.
    options="detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:log_path=$said/asan"
    binary=${TEST_NGINX_BINARY:-$(PATH=$PATH:/usr/sbin command -v nginx)}
    cat >"$said/nginx" <<END
#!/bin/sh
LD_PRELOAD="$(gcc -print-file-name=libasan.so) \$LD_PRELOAD" ASAN_OPTIONS=$options exec $binary "\$@"
END
    chmod +x "$said/nginx"
    export TEST_NGINX_ASAN=1 TEST_NGINX_BINARY=$said/nginx TEST_NGINX_TIMEOUT=${TEST_NGINX_TIMEOUT:-15}

    printf 'load_module %s;\n' $TEST_NGINX_LOAD_MODULES >"$said/control.conf"
    echo 'events {} http {}' >>"$said/control.conf"
    nginx=("$said/nginx" -t -q -p "$said/" -e stderr -c "$said/control.conf")
    "${nginx[@]}" || { cat "$said"/asan.* 2>/dev/null; echo "$0: nginx does not start" >&2; exit 1; }
    ! WEBSOCKET_ASAN_CONTROL=1 "${nginx[@]}" >/dev/null 2>&1 && grep -q heap-use-after-free "$said"/asan.* ||
        { echo "$0: the positive control was not detected" >&2; exit 1; }
    rm -f "$said"/asan.*
    echo "asan: the positive control was detected"
fi

passed=yes
t/prove.sh "$@" || passed=no
if [ "$kind" = asan ] && compgen -G "$said/asan.*" >/dev/null; then
    cat "$said"/asan.*
    echo "$0: AddressSanitizer has found something" >&2
    exit 1
fi
[ "$passed" = yes ]
