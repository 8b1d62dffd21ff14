#!/usr/bin/env bash
# README's promise, kept on a new machine: in a chroot of each suite that debootstrap has just made,
# a clone of the repository and README's two commands exactly as they are printed there. What they
# install is installed first, by the same scripts; then the commands run in a network namespace that
# has loopback only, so that nothing on this machine can help them. `make run` is asked over HTTP
# and as a WebSocket, and ended as Ctrl-C ends it; `make test` has to pass.
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
