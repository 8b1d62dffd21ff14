#!/bin/sh
# Starts the demo in the foreground: nginx with nginx-conf/nginx.conf, this script's own
# repository being the prefix. `make run`, the image and t/clients/run.sh call it.
#   LISTEN=ADDRESS:PORT   another address than the file's 127.0.0.1:8080
#   NGINX_BIN=PATH        another nginx than the one on the path
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/run
conf=nginx-conf/nginx.conf

if [ -n "${LISTEN:-}" ]; then
    sed -e "s|listen 127\.0\.0\.1:8080 |listen $LISTEN |" \
        -e 's|include \([a-z]*\.conf\);|include ../../nginx-conf/\1;|' "$conf" > build/run/nginx.conf
    conf=build/run/nginx.conf
fi

# Under root the workers become the checkout's owner, who can read it; "nobody" may not.
if [ "$(id -u)" = 0 ]; then
    owner=$(stat -c %U .)
    [ "$owner" != UNKNOWN ] || owner=root   # a mounted folder whose owner has no name here
    set -- "$@" -g "user $owner $(id -gn "$owner");"
fi

PATH=$PATH:/usr/sbin
exec "${NGINX_BIN:-nginx}" -e stderr -p "$PWD" -c "$conf" "$@"
