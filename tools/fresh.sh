#!/usr/bin/env bash
# README's promise, kept on a new machine: in a chroot of each suite that debootstrap has just made,
# a clone of the repository and README's two commands exactly as they are printed there. What they
# install is installed first, by the same scripts; then the commands run in a network namespace that
# has loopback only, so that nothing on this machine can help them. `make run` is asked over HTTP
# and as a WebSocket, and ended as Ctrl-C ends it; `make test` has to pass.
# Before all that a newcomer's first minutes: `make run` with network and nothing installed answers
# within three minutes (PATIENCE=180 seconds), and is never silent for longer than ten seconds.
#   ONLY=first   no more than that
# Usage: tools/fresh.sh [SUITE ...]   default: the suite of this machine, or Debian 12's
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/chroot.sh
. tools/chroot.sh

suites=("$@")
if [ ${#suites[@]} = 0 ]; then
    # shellcheck disable=SC1091
    suites=("$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-sid}" || echo bookworm)")
fi

# The first block of shell commands in README, without its comments.
mapfile -t commands < <(sed -n '/^```sh$/,/^```$/{/^```/d;s/ *#.*//;p};/^```$/q' README.md | grep .)
[ "${commands[*]}" = "make run make test" ] || die "README's first commands are: ${commands[*]}"

begun=$SECONDS
stage() { printf '%s: %4d s  %s\n' "$suite" $((SECONDS - begun)) "$*"; }
log() { echo "$chroots/fresh-$suite.$1.log"; }
# quietly NAME COMMAND...: its output goes to a log, whose end is shown if it fails
quietly() {
    local out
    out=$(log "$1"); shift
    "$@" >"$out" 2>&1 || { tail -n 30 "$out" >&2; die "$suite: \"$*\" failed, see $out"; }
}

# `make run` by somebody who has only just cloned: until the page is there. In the machine's network,
# hence on another port than the usual one.
first_minutes() {
    local seconds silence before line at
    seconds=$SECONDS
    in_chroot bash -euc '
        set -m
        export LISTEN=127.0.0.1:28080
        $0 > >(while IFS= read -r line; do printf "%(%s)T %s\n" -1 "$line"; done) 2>&1 & demo=$!
        trap "kill -INT -\$demo; wait \$demo || true" EXIT
        printf "%(%s)T begin\n" -1
        until (exec 3<>/dev/tcp/127.0.0.1/28080) 2>/dev/null; do
            kill -0 $demo || exit 1
            sleep 0.2
        done
        exec 3<>/dev/tcp/127.0.0.1/28080
        printf "GET / HTTP/1.0\r\n\r\n" >&3
        grep -q "<title>nginx-lua-websocket" <&3
        printf "%(%s)T page\n" -1
    ' "$1" >"$(log first)" 2>&1 || { tail -n 30 "$(log first)" >&2; die "$suite: $1 failed"; }
    seconds=$((SECONDS - seconds)) silence=0 before=
    while read -r at line; do
        [ -z "$before" ] || [ $((at - before)) -le $silence ] || silence=$((at - before))
        before=$at
    done < <(grep -E '^[0-9]+ ' "$(log first)")
    stage "from a clone to the page by $1: $seconds s, silent for $silence s at most"
    [ "$seconds" -le "${PATIENCE:-180}" ] || die "$suite: $1 took more than ${PATIENCE:-180} s"
    [ "$silence" -le 10 ] || die "$suite: $1 was silent for $silence s, see $(log first)"
}

# `make run`, asked as a user would ask it, and ended.
run_and_ask() {
    local answer
    in_chroot --offline bash -euc '
        set -m
        $0 & demo=$!
        trap "kill -INT -\$demo; wait \$demo || true" EXIT
        until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do
            kill -0 $demo || exit 1
            sleep 0.2
        done
        echo "asked: $(curl -sS "http://127.0.0.1:8080/ask?hello")"
        echo "echoed: $(python3 t/lib/echo.py 127.0.0.1 8080 /echo "hello from a fresh machine")"
    ' "$1" >"$(log run)" 2>&1 || { tail -n 30 "$(log run)" >&2; die "$suite: $1 failed"; }
    for answer in "asked: hellotext" "echoed: hello from a fresh machine"; do
        grep -qx "$answer" "$(log run)" || { tail -n 30 "$(log run)" >&2; die "$suite: no \"$answer\""; }
    done
}

chroot_prepare
for suite in "${suites[@]}"; do
    chroot_lock "$suite"
    base_of "$suite"
    begun=$SECONDS
    chroot_new "$suite" "fresh-$suite"
    quietly tools in_chroot apt-get install -y -q --no-install-recommends git make
    chroot_clone
    stage "a new Debian with git, make and a clone"
    # Before anything is there: one line, and nothing is changed.
    before=$(in_chroot dpkg-query -W | sha256sum)
    said=$(in_chroot --offline make -s build 2>&1) && die "$suite: make build without network succeeds"
    grep -q '^deps: apt-get update failed (no network?); missing: ' <<<"$said" ||
        die "$suite: without network make build says: $said"
    [ "$before" = "$(in_chroot dpkg-query -W | sha256sum)" ] || die "$suite: it has changed packages"
    first_minutes "${commands[0]}"
    if [ "${ONLY:-}" = first ]; then rm -rf "$chroot"; continue; fi
    quietly deps in_chroot tools/deps.sh build test
    stage "packages and crates for make run"
    # What only make test needs comes while make run compiles; each in a namespace of its own.
    quietly clients in_chroot t/clients/run.sh --prepare &
    clients=$!
    run_and_ask "${commands[0]}"
    stage "${commands[0]} answers"
    wait $clients || die "$suite: the clients' packages are missing"
    quietly test in_chroot --offline ${commands[1]}
    stage "${commands[1]}: $(grep -c '^test result: ok' "$(log test)") crates' results," \
        "$(grep '^Files=' "$(log test)" | cut -d, -f1-2), clients: $(tail -n 1 "$(log test)")"
    rm -rf "$chroot"
done
say "${suites[*]}: done in $((SECONDS)) s"
