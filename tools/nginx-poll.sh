#!/usr/bin/env bash
# An nginx like this machine's that has poll and select too, which Debian builds without: made from the
# source that Debian publishes for it, with Debian's flags, so that the same modules load into it.
# Prints the path of the binary, which is kept in OUTDIR from one call to the next.
# Usage: tools/nginx-poll.sh OUTDIR
set -euo pipefail
out=$1
die() { echo "nginx-poll: $*" >&2; exit 1; }

flags=/usr/share/nginx/src/conf_flags
[ -f $flags ] || die "$flags is missing (Debian package nginx-dev)"
version=$(dpkg-query -W -f='${Version}' nginx-dev | sed 's/^[0-9]*://; s/-[^-]*$//')
mkdir -p "$out" && out=$(cd "$out" && pwd)
binary=$out/$version/nginx
if [ ! -x "$binary" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # Where this machine gets its packages, their sources are too.
    mkdir -p "$work"/{lists,cache/archives,parts,nginx,objs}/partial
    grep -rhE '^ *deb .*debian' /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed 's/^ *deb /deb-src /' >"$work/parts/own.list" || true
    for file in /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/${file##*/}"
    done
    apt=(-q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts"
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
    {
        apt-get "${apt[@]}" update
        (cd "$work" && apt-get "${apt[@]}" source --tar-only nginx)
        tar -C "$work/nginx" --strip 1 -xf "$work"/nginx_"$version".orig.tar.*
        # Debian's patches change structs within a version: the layout is that of the headers which the
        # machine's modules are built with. The patches themselves are of no matter to tests.
        cp -r /usr/share/nginx/src/src/. "$work/nginx/src/"
        cd "$work/nginx"
        # shellcheck disable=SC1090
        . $flags
        ./configure --with-cc-opt="-g -O2 -fPIC" "${NGX_CONF_FLAGS[@]}" \
            --with-poll_module --with-select_module --builddir="$work/objs"
        make -f "$work/objs/Makefile" -j"$(nproc)" binary
    } >"$out/log" 2>&1 || die "could not be made, see $out/log"
    mkdir -p "$out/$version"
    cp "$work/objs/nginx" "$binary"
fi
echo "$binary"
