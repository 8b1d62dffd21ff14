#!/usr/bin/env bash
# The part of tools/test-deb.sh that runs in the chroot, as its only user: installs, uses, upgrades,
# removes and purges PACKAGE, which lies in this folder beside next.deb. Prints one line a step; the
# first thing that is not as it should be ends it.
set -euo pipefail
package=$1
name=libnginx-mod-http-lua-websocket
enabled=/etc/nginx/modules-enabled/60-mod-http-lua-websocket.conf
so=/usr/lib/nginx/modules/ngx_http_lua_websocket_module.so

fail() { echo "not ok - $*" >&2; tail -n 20 life.log /var/log/nginx/error.log >&2 || true; exit 1; }
ok() { echo "ok - $*"; }
logged() { "$@" >>life.log 2>&1 || fail "$*"; }
until_true() { # until_true WHAT COMMAND...: for at most ten seconds
    local what=$1 tries
    shift
    for ((tries = 0; tries < 100; tries++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    fail "$what"
}
echoes() { [ "$(python3 lib/echo.py 127.0.0.1 8080 /echo "$1")" = "$1" ]; }
master() { cat /run/nginx.pid; }
loaded() { grep -q "$so\( (deleted)\)\?$" "/proc/$(master)/maps"; }
not_loaded() { ! loaded; }

# A chroot has no init; this answer lets the packages run nginx by its script all the same.
printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d

logged apt-get install -y -q "./$package"
[ "$(readlink $enabled)" = /usr/share/nginx/modules-available/mod-http-lua-websocket.conf ] ||
    fail "$enabled is no link to modules-available"
logged nginx -t
until_true "nginx does not run after the installation" loaded
ok "apt install ./$package: enabled, and nginx runs with it"

cat >/etc/nginx/conf.d/echo.conf <<'CONF'
server { listen 8080; location = /echo { content_by_lua_block {
    local ws = assert(require("resty.websocket").accept())
    for data, typ in ws:messages() do ws:send(data, typ) end
} } }
CONF
logged nginx -t
logged invoke-rc.d nginx reload
until_true "no echo after a reload" echoes "after a reload"
ok "a reload: a handler of README's kind answers"

# The demo, as it lies among the examples; it leaves nothing behind.
examples=/usr/share/doc/$name/examples
listed=$(find $examples /tmp | sort)
LISTEN=127.0.0.1:8081 bash $examples/nginx-conf/start.sh >demo.log 2>&1 & demo=$!
until_true "the demo does not say its address" grep -q "http://127.0.0.1:8081/" demo.log
[ "$(python3 lib/echo.py 127.0.0.1 8081 /echo "among examples")" = "among examples" ] || fail "no echo of the demo"
kill -INT $demo
wait $demo || fail "the demo ended badly: $(cat demo.log)"
same() { [ "$(find $examples /tmp | sort)" = "$listed" ]; }
until_true "the demo leaves files behind" same
nginx -t -q -p $examples -c nginx-conf/tarantool/nginx.conf >>life.log 2>&1 || fail "the tarantool examples"
nginx -t -q -p $examples/nginx-conf/lua-websockets/ -c nginx.conf >>life.log 2>&1 || fail "the lua-websockets examples"
rm -rf /tmp/tarantool-* /tmp/lua-websockets.pid
ok "the examples run from where they are installed"

before=$(master)
first=$(stat -c %i $so)
logged apt-get install -y -q ./next.deb
[ "$(dpkg-query -W -f='${Version}' $name)" = "$(dpkg-deb -f next.deb Version)" ] || fail "not upgraded"
[ "$(stat -c %i $so)" != "$first" ] || fail "the module's file is the old one"
[ "$(master)" = "$before" ] || fail "the upgrade has restarted nginx"
until_true "no echo after the upgrade" echoes "after the upgrade"
# A reload finds the module by its path among what is loaded; another process reads the file.
logged invoke-rc.d nginx upgrade
renewed() { [ "$(master)" != "$before" ] && grep -q " $(stat -c %i $so) .*$so\$" "/proc/$(master)/maps"; }
until_true "the new nginx has not loaded the new file" renewed
until_true "no echo by the new nginx" echoes "by the new nginx"
before=$(master)
ok "an upgrade: nginx goes on, and reads the new file when it is told to (service nginx upgrade)"

logged apt-get install -y -q --allow-downgrades "./$package"
[ "$(dpkg-query -W -f='${Version}' $name)" = "$(dpkg-deb -f "$package" Version)" ] || fail "not downgraded"
[ "$(master)" = "$before" ] || fail "the downgrade has restarted nginx"
until_true "no echo after the downgrade" echoes "after the downgrade"
logged invoke-rc.d nginx upgrade
until_true "the nginx after it has not loaded the old file" renewed
until_true "no echo by the nginx after it" echoes "by the nginx after it"
before=$(master)
ok "a downgrade: the same"

rm $enabled /etc/nginx/conf.d/echo.conf
logged apt-get install -y -q ./next.deb
[ ! -e $enabled ] || fail "what the administrator has switched off was switched on"
ln -s /usr/share/nginx/modules-available/mod-http-lua-websocket.conf $enabled
ok "switched off by the administrator: another version leaves it so"

logged apt-get remove -y -q $name
[ ! -L $enabled ] && [ -L $enabled.removed ] || fail "remove leaves $enabled"
logged nginx -t
until_true "removed, and nginx still has it" not_loaded
logged apt-get install -y -q "./$package"
[ -L $enabled ] && [ ! -L $enabled.removed ] || fail "not enabled again"
ok "removed and installed again"

logged apt-get purge -y -q $name
left=$(find / -xdev -name "*lua[-_]websocket*" -not -path "/srv/*" -not -path "/proc/*" \
    -not -path "/var/cache/*")
[ -z "$left" ] || fail "purge leaves $left"
logged nginx -t
until_true "purged, and nginx still has it" not_loaded
[ "$(master)" = "$before" ] && kill -0 "$before" || fail "nginx has ended"
ok "purged: nothing is left, and nginx goes on"

if grep -E '\[(emerg|alert|crit|error)\]' /var/log/nginx/error.log; then fail "nginx logged errors"; fi
ok "nginx logged no error"
