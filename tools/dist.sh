#!/usr/bin/env bash
# The source archive for a machine without network: what is committed, and every crate of Cargo.lock
# in vendor/, where cargo is told to look. It is then unpacked and built once, in a network namespace
# that has no way out, and with an empty cargo home.
# Leaves build/nginx-lua-websocket-VERSION.tar.xz.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "dist: $*" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=nginx-lua-websocket-$version
work=$PWD/build/dist
rm -rf "$work"
mkdir -p "$work/$name" "$work/check" "$work/cargo"
git archive HEAD | tar -x -C "$work/$name"
[ -z "$(git status --porcelain)" ] || echo "dist: what is not committed is not in the archive" >&2

mkdir -p "$work/$name/.cargo"
(cd "$work/$name" && cargo vendor -q --locked --versioned-dirs vendor >/dev/null) ||
    die "crates cannot be fetched (no network?)"
cat >"$work/$name/.cargo/config.toml" <<'CONFIG'
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
CONFIG
# Crates for Windows are in Cargo.lock, but nothing here is built from them, and they are most of the
# size: their manifests stay, for cargo to resolve, and an empty library.
(cd "$work/$name/vendor" && shopt -s nullglob && python3 - winapi* windows*) <<'PYTHON'
import json, pathlib, shutil, sys
for name in sys.argv[1:]:
    crate = pathlib.Path(name)
    for entry in crate.iterdir():
        if entry.name not in ("Cargo.toml", ".cargo-checksum.json"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (crate / "src").mkdir()
    (crate / "src/lib.rs").touch()
    (crate / "build.rs").write_text("fn main() {}\n")
    sums = json.loads((crate / ".cargo-checksum.json").read_text())
    (crate / ".cargo-checksum.json").write_text(json.dumps({**sums, "files": {}}))
PYTHON
time=$(git log -1 --format=%ct)
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" -c "$name" |
    xz -T0 -3 >"build/$name.tar.xz.new"

offline=(unshare --net)
[ "$(id -u)" = 0 ] || offline=(unshare --net --map-root-user)
tar -C "$work/check" -xf "build/$name.tar.xz.new"
"${offline[@]}" true 2>/dev/null || die "this machine allows no network namespace to try the archive in"
(cd "$work/check/$name" &&
    "${offline[@]}" env CARGO_HOME="$work/cargo" make build) >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; die "the archive does not build without network, see $work/log"; }
[ -f "$work/check/$name/build/ngx_http_lua_websocket_module.so" ] || die "no module was built"
mv "build/$name.tar.xz.new" "build/$name.tar.xz"
rm -rf "$work"
echo "built build/$name.tar.xz ($(du -h "build/$name.tar.xz" | cut -f1)), which builds without network"
