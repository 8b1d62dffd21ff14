#!/usr/bin/env bash
# Runs test files against a real nginx with ngx_lua (and this module, once it is built).
#
#   t/prove.sh [-j N] [prove options] [file or directory ...]      default: t/*/*.t
#
# Test::Nginx is taken from CPAN if it is installed, from t/lib otherwise. Every test file
# gets a port range of 20 (TEST_NGINX_SERVER_PORT and up) and a server root of its own, locked
# for as long as it runs, so that -j and several calls at a time do not disturb each other. Files
# wait more than they work: four run at a time, two with valgrind.
# Exits non-zero when something failed and when no test was run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Whether nobody listens on the ports from $1 on; not all who do take part in the locking.
range_is_free() {
    local port
    for ((port = $1; port < $1 + 20; port++)); do
        if true 2>/dev/null <>"/dev/tcp/127.0.0.1/$port"; then
            return 1
        fi
    done 2>/dev/null
}

# Called back by prove for a single file: takes the first free port range and runs the file.
if [[ ${1:-} == --in-slot ]]; then
    file=$2
    locks=${TMPDIR:-/tmp}/test-nginx-ports-$(id -u)
    mkdir -p "$locks"
    base=${TEST_NGINX_PORT:-1984}
    for ((port = base; port < base + 20 * 64; port += 20)); do
        exec {lock}>"$locks/$port"
        if flock -n "$lock" && range_is_free "$port"; then
            export TEST_NGINX_PORT=$port TEST_NGINX_SERVER_PORT=$port
            export TEST_NGINX_SERVROOT=${TEST_NGINX_SERVROOT:-$root/t/servroot}_$port
            exec perl $TEST_NGINX_PERL_OPTIONS "$file"
        fi
        exec {lock}>&-
    done
    echo "Bail out! all port ranges from $base on are taken"
    exit 1
fi

jobs=$([[ -n ${TEST_NGINX_USE_VALGRIND:-} ]] && echo 2 || echo 4)
options=()
files=()
while (($#)); do
    case $1 in
    -j) jobs=$2; shift ;;
    -*) options+=("$1") ;;
    *)
        [[ -e $1 ]] || { echo "$0: no such file: $1" >&2; exit 1; }
        file=$(realpath --relative-to="$root" "$1")
        if [[ -d $1 ]]; then files+=("$file"/*.t); else files+=("$file"); fi
        ;;
    esac
    shift
done

cd "$root"
((${#files[@]})) || files=(t/*/*.t)

if [[ -z ${TEST_NGINX_LOAD_MODULES+set} ]]; then
    modules=/usr/lib/nginx/modules
    for module in "$modules/ndk_http_module.so" "$modules/ngx_http_lua_module.so" \
        "$root/build/ngx_http_lua_websocket_module.so"; do
        [[ -e $module ]] && TEST_NGINX_LOAD_MODULES+="${TEST_NGINX_LOAD_MODULES:+ }$module"
    done
    export TEST_NGINX_LOAD_MODULES
fi

TEST_NGINX_PERL_OPTIONS=-I.
perl -MTest::Nginx::Socket -e1 2>/dev/null || TEST_NGINX_PERL_OPTIONS='-It/lib -I.'
export TEST_NGINX_PERL_OPTIONS

output=$(mktemp)
trap 'rm -f "$output"' EXIT
# A line for each file that has ended, with how many there are.
prove --exec "bash t/prove.sh --in-slot" -j "$jobs" "${options[@]}" "${files[@]}" | tee "$output" |
    awk -v all="${#files[@]}" '
        /^[^ ]+\.t \.+ / { printf "[%d/%d] ", ++n, all } { print; fflush() }'

if grep -q '^Files=[0-9]*, Tests=0,' "$output"; then
    echo "$0: no test was run" >&2
    exit 1
fi
