#!/usr/bin/env bash
# `make conformance`: the Autobahn test suite against the built module, as server and as client, by
# frames and by messages. Installs the suite into build/autobahn when it is not there yet; what the
# run leaves behind is in build/conformance. Ends with 0 only when every target was reached.
#   run.sh [--quick] [--record] [--role ROLE]... [--cases PATTERNS]... ; run.sh --help tells more
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin

die() { echo "conformance/run.sh: $*" >&2; exit 2; }

module=${MODULE:-build/ngx_http_lua_websocket_module.so}
[ -f "$module" ] || die "no $module: run \"make build\" first"
for tool in "${NGINX_BIN:-nginx}" openssl python3; do
    command -v "$tool" >/dev/null || die "needs $tool"
done
conformance/install.sh

work=build/conformance
mkdir -p "$work"
exec 9>"$work/lock"
flock -n 9 || die "another run is under way in $work"
if [ ! -f "$work/cert.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
fi
chmod 644 "$work/key.pem"    # ports that programs open are opened by workers, which run as nobody

export MODULE=$module
exec python3 conformance/run.py "$@"
