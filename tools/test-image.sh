#!/usr/bin/env bash
# The image of Dockerfile, tried where no Docker engine runs: the steps of its Debian stages are done in
# chroots that debootstrap has made, and its command is started as its user in a network namespace of
# its own, which a pair of virtual cables joins to this one, as a bridge does. From outside its page, its
# echo and its health are asked, and messages published: a private address may, another may not.
# OpenResty's stages need images that only a registry has: they are left out, with a line.
# Usage: tools/test-image.sh      as root
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/chroot.sh
. tools/chroot.sh
chroot_prepare
command -v ip >/dev/null || die "iproute2 is missing"

suite=bookworm
context=$chroots/image.context
log=$chroots/image.log
net=nlw-image
inner=172.31.250.2 outer=172.31.250.1      # as a container's bridge has it
far_inner=198.51.100.2 far=198.51.100.1    # RFC 5737: nobody's

chroot_lock "$suite"
rm -rf "$context"
mkdir -p "$context"
git archive HEAD | tar -x -C "$context"
tools/image_steps.py --context "$context"

where() { case $1 in /*) echo "$1" ;; *) echo "$inside/$1" ;; esac; }

# copy ROOT SOURCE... TARGET: as COPY does it, a folder's contents into the folder that is named.
copy() {
    local from=$1 words=("${@:2}") target source
    target=$chroot$(where "${words[-1]}")
    unset 'words[-1]'
    mkdir -p "$(case $target in */) echo "$target" ;; *) dirname "$target" ;; esac)"
    for source in "${words[@]}"; do
        if [ -d "$from/$source" ]; then
            mkdir -p "$target"
            cp -r "$from/$source/." "$target"
        else
            cp "$from/$source" "$target"
        fi
    done
}

# words_of ARRAY: a JSON array of words, as shell words
words_of() {
    python3 -c 'import json, shlex, sys; print(shlex.join(json.loads(sys.argv[1])))' "$1"
}

environment=() user=0:0 command= health= skipped=
begun=$SECONDS
while IFS= read -r -d '' stage && IFS= read -r -d '' word && IFS= read -r text; do
    if [ "$word" = FROM ]; then
        skipped=
        environment=() user=0:0 inside=/
        case $text in
            debian:$suite-slim*) chroot_new "$suite" "image-$stage" ;;
            *) skipped=yes; say "left out: FROM $text" ;;
        esac
        continue
    fi
    [ -z "$skipped" ] && [ "$word" != ARG ] || continue
    say "$((SECONDS - begun)) s  $word ${text:0:80}"
    case $word in
        RUN)
            in_chroot env "${environment[@]}" sh -c "$text" >"$log" 2>&1 ||
                { tail -n 20 "$log" >&2; die "failed: RUN $text"; } ;;
        COPY)
            read -ra words <<<"$text"
            from=$context
            if [[ ${words[0]} == --from=* ]]; then
                from=$chroots/image-${words[0]#--from=}
                words=("${words[@]:1}")
            fi
            copy "$from" "${words[@]}" ;;
        WORKDIR) inside=$text; mkdir -p "$chroot$inside" ;;
        ENV) eval "environment+=($text)" ;;
        USER) user=$text ;;
        CMD) command=$(words_of "$text") ;;
        HEALTHCHECK) health=$(words_of "${text#*CMD }") ;;
        EXPOSE) port=$text ;;
        SHELL) ;;
        *) die "unknown instruction $word" ;;
    esac
done < <(tools/image_steps.py)

# As the engine does: another namespace, the image's user and variables.
contained() {
    export chroot chroots inside home
    export -f in_chroot
    ip netns exec $net bash -c 'in_chroot "$@"' contained env "${environment[@]}" \
        setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups bash -c "$1"
}
gone() {
    [ -z "${demo:-}" ] || kill -- -"$demo" 2>/dev/null || true
    ip netns del $net 2>/dev/null || true
    ip link del $net 2>/dev/null || true
}
gone
trap gone EXIT
ip netns add $net
ip link add $net type veth peer name eth0 netns $net
ip addr add $outer/30 dev $net
ip addr add $far/30 dev $net
ip link set $net up
ip -n $net addr add $inner/30 dev eth0
ip -n $net addr add $far_inner/30 dev eth0
ip -n $net link set eth0 up
ip -n $net link set lo up

set -m
contained "exec $command" >"$log" 2>&1 & demo=$!
set +m
until (exec 3<>/dev/tcp/$inner/$port) 2>/dev/null; do
    kill -0 $demo 2>/dev/null || { cat "$log" >&2; die "the image's command ended"; }
    sleep 0.1
done
answered() { # answered STATUS WHAT CURL'S ARGUMENTS...
    local status
    status=$(curl -sS --noproxy '*' -o "$chroots/image.answer" -w '%{http_code}' "${@:3}")
    [ "$status" = "$1" ] || { cat "$log" >&2; die "$2: $status, not $1"; }
    say "ok: $2: $status"
}
answered 200 "the page from outside" "http://$inner:$port/"
grep -q "<title>nginx-lua-websocket" "$chroots/image.answer" || die "that is not the demo's page"
[ "$(python3 t/lib/echo.py $inner $port /echo "from outside")" = "from outside" ] || die "no echo"
say "ok: an echo from outside"
answered 202 "a message published from a private address" \
    -d hello "http://$inner:$port/publish/lobby"
answered 403 "a message published from any other" \
    -d hello --interface $far "http://$far_inner:$port/publish/lobby"
contained "$health" || die "its health check fails"
say "ok: its health check"
master=$(ip netns pids $net | xargs -r ps -o pid= -o args= -p |
    awk '/nginx: master process/ {print $1; exit}')
owner=$(stat -c %u "/proc/$master")
[ "$owner" = "${user%:*}" ] || die "nginx runs as $owner"
kill -TERM "$master"
wait $demo || die "the image's command ended badly"
demo=
say "ok: ends on SIGTERM; the image works ($((SECONDS - begun)) s)"
