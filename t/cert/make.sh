#!/usr/bin/env bash
# Makes the certificates of the TLS tests, beside this script; none is kept in the repository.
# Done once; again when one of them is about to expire. Several test files may call it at a time.
#
#   ca.pem                an authority: signs ws.test and client
#   ws.test.pem           server certificate for the name ws.test
#   address.pem           server certificate for 127.0.0.1 and ::1, without their names
#   self-signed.pem       server certificate for ws.test too, signed by nobody else
#   client.pem            client certificate, signed by ca.pem
#   stranger.pem          client certificate, signed by itself
# Each has its private key beside it: NAME.key.pem.
set -euo pipefail
cd "$(dirname "$0")"

exec {lock}<"$PWD"
flock "$lock"

all=(ca ws.test address self-signed client stranger)
fresh() {
    local name
    for name in "${all[@]}"; do
        [ -s "$name.key.pem" ] || return 1
        openssl x509 -in "$name.pem" -noout -checkend 86400 >/dev/null 2>&1 || return 1
    done
}
! fresh || exit 0

# make NAME SUBJECT [openssl req options ...]
make() {
    local name=$1 subject=$2
    shift 2
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
        -subj "$subject" -keyout "$name.key.pem" -out "$name.pem" "$@" 2>/dev/null
}

signed=(-CA ca.pem -CAkey ca.key.pem -addext basicConstraints=critical,CA:FALSE)
make ca /CN=test-authority
make ws.test /CN=ws.test "${signed[@]}" -addext subjectAltName=DNS:ws.test
make address /CN=address "${signed[@]}" -addext subjectAltName=IP:127.0.0.1,IP:::1,DNS:host.test
make self-signed /CN=ws.test -addext subjectAltName=DNS:ws.test
make client /CN=client-one "${signed[@]}"
make stranger /CN=stranger
