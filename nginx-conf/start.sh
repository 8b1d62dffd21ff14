#!/usr/bin/env bash
# Starts the demo in the foreground: nginx with nginx-conf/nginx.conf, the folder above being the
# prefix, and says its address once it answers. `make run`, the image, t/clients/run.sh and
# cluster/start.sh call it, and whoever has the package, whose examples it lies among: there it takes the
# installed module. One demo at a time has a run folder: a second is refused, in words.
#   LISTEN=ADDRESS:PORT   another address than the file's 127.0.0.1:8080
#   RUN=FOLDER            another folder than build/run for what nginx writes; without a build/ it is
#                         one that is gone with the demo
#   MODULE=PATH           another module than build/ngx_http_lua_websocket_module.so, or the installed one
#   PUBLISHERS="ADDRESS ..."  who may publish, beside this machine itself
#   NGINX_BIN=PATH        another nginx than the one on the path
#   start.sh --free       only tells whether it could start
set -euo pipefail
cd "$(dirname "$0")/.."
listen=${LISTEN:-127.0.0.1:8080}
run=${RUN:-build/run}
module=build/ngx_http_lua_websocket_module.so
[ -d build ] || module=/usr/lib/nginx/modules/${module#build/}
module=${MODULE:-$module}
temporary=
if [ -z "${RUN:-}" ] && [ ! -d build ] && [ ! -f Cargo.toml ]; then
    run=$(mktemp -d)
    temporary=$run
fi
mkdir -p "$run"

# Where a page or a program of this machine finds it.
port=${listen##*:}
host=${listen%:*}
case $host in 0.0.0.0 | "*" | "[::]" | "$listen") host=127.0.0.1 ;; esac
address=http://$host:$port/
answers() { (exec 3<>"/dev/tcp/${host//[\[\]]/}/$port") 2>/dev/null; }

# nginx inherits the lock, and its workers do: it is free when the last of them has ended. (The pid
# file tells less: it is gone while old workers drain, and a killed nginx leaves it.)
exec {lock}>>"$run/lock"
if ! flock -n "$lock"; then
    read -r pid running <"$run/lock" || true
    echo "a demo is running already: $running" >&2
    echo "stop it with Ctrl-C where it runs, or: kill $pid" >&2
    exit 1
fi
# Two nginx of one user can listen on one port, for it is opened with reuseport: they would share
# the visitors.
if answers; then
    echo "something else listens on $host:$port; another port: LISTEN=127.0.0.1:8081 make run" >&2
    exit 1
fi
if [ "${1:-}" = --free ]; then exit; fi

# Gone when the last process of nginx is.
clean() { exec {lock}>&-; flock "$run/lock" rm -rf "$run"; }
[ -z "$temporary" ] || (trap '' INT TERM; clean &)

# The same files with other values; what nginx.conf includes lies beside it.
allow=$(printf 'allow %s; ' ${PUBLISHERS:-})
for conf in nginx-conf/*.conf; do
    sed -e "s|listen 127\.0\.0\.1:8080 |listen $listen |" -e "s|build/run/|$run/|" \
        -e "s|websocket_origin http://127\.0\.0\.1:8080 http://localhost:8080;|websocket_origin http://$host:$port http://localhost:$port;|" \
        -e "s|load_module build/[a-z_]*\.so|load_module $module|" \
        -e "s|allow 127\.0\.0\.1;|& ${PUBLISHERS:+$allow}|" "$conf" >"$run/${conf##*/}"
done

# Under root the workers become the checkout's owner, who can read it; "nobody" may not.
owner=()
if [ "$(id -u)" = 0 ]; then
    name=$(stat -c %U .)
    [ "$name" != UNKNOWN ] || name=root   # a mounted folder whose owner has no name here
    if [ -n "$temporary" ]; then name=www-data; chown "$name" "$run"; fi
    owner=(-g "user $name $(id -gn "$name");")
fi

echo "$$ $address" >"$run/lock"
# Beside nginx, which becomes this process; it is init's child, not one that nginx wonders about.
tell() {
    exec {lock}>&-
    until answers; do
        if flock -n "$run/lock" true; then exit 0; fi    # nobody holds it: nginx did not start
        sleep 0.05
    done
    echo "the demo runs, Ctrl-C ends it. Open  $address"
}
(tell &)

PATH=$PATH:/usr/sbin
exec "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$run/nginx.conf" "${owner[@]}"
