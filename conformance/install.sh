#!/usr/bin/env bash
# Puts the Autobahn test suite into build/autobahn; run.sh calls it. The suite needs Python 2.7,
# which Debian last had in bullseye: its packages are fetched by an apt of their own and only
# unpacked, so nothing on the machine changes. The rest are wheels and sources by pip.
# A finished installation is recognised by its stamp, and then neither network nor time is needed.
# Leaves build/autobahn/python2, a Python 2.7 that has the suite.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$PWD/conformance
work=$PWD/build/autobahn
die() { echo "conformance/install.sh: $*" >&2; exit 2; }

stamp=$(cat "$here/install.sh" "$here/requirements.txt" | sha256sum)
if [ "$(cat "$work/stamp" 2>/dev/null)" = "$stamp  $work" ]; then exit 0; fi

for tool in apt-get dpkg-deb gcc python3; do
    command -v $tool >/dev/null || die "needs $tool"
done
python3 -m pip --version >/dev/null 2>&1 || die "needs python3 with pip"

rm -rf "$work"
mkdir -p "$work"/apt/{lists/partial,cache/archives/partial,debs} "$work"/{wheels,tools}
exec 3>&1 4>&2 >"$work/install.log" 2>&1
failed() { tail -n 20 "$work/install.log"; echo "conformance/install.sh: failed"; }
trap '[ $? = 0 ] || failed >&4' EXIT
echo "installing the Autobahn test suite into build/autobahn" >&3

# --- Python 2.7 ----------------------------------------------------------------------------------

# The mirror is the one the machine's own packages come from.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
    sed -n '\|/debian/*$|{p;q}')
[ -n "$mirror" ] || die "apt knows no Debian mirror: run apt-get update first"

cat > "$work/apt/conf" <<APT
Dir::Etc::SourceList "$work/apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::PreferencesParts "-";
Dir::State::Lists "$work/apt/lists";
Dir::State::Status "$work/apt/status";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
APT
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror bullseye main" > "$work/apt/sources.list"
: > "$work/apt/status"
export APT_CONFIG=$work/apt/conf
apt-get -q update
(
    cd "$work/apt/debs"
    apt-get -q download python2.7-minimal libpython2.7-minimal libpython2.7-stdlib \
        libpython2.7-dev libssl1.1 libffi7
)
for deb in "$work"/apt/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
unset APT_CONFIG

cat > "$work/python2" <<PYTHON
#!/bin/sh
unset PYTHONHOME
export LD_LIBRARY_PATH=$work/root/usr/lib/$(gcc -print-multiarch)
exec $work/root/usr/bin/python2.7 -B -W ignore "\$@"
PYTHON
chmod +x "$work/python2"
"$work/python2" -c 'import ctypes, ssl, zlib'

# --- the suite -----------------------------------------------------------------------------------

# pip for Python 2 comes as a wheel, which Python can run without installing it.
python3 -m pip download -q --no-deps -d "$work/wheels" pip==20.3.4 setuptools==44.1.1 wheel==0.37.1
pip2() {
    CFLAGS="-O2 -I$work/root/usr/include/python2.7 -I$work/root/usr/include" \
        PYTHONPATH="$(echo "$work"/wheels/pip-*.whl):$work/tools" \
        "$work/python2" -m pip install -q --no-compile --no-deps "$@"
}
pip2 --no-index --find-links "$work/wheels" --target "$work/tools" setuptools wheel
pip2 --no-build-isolation --target "$work/root/usr/lib/python2.7/dist-packages" \
    -r "$here/requirements.txt"
touch "$work/root/usr/lib/python2.7/dist-packages/zope/__init__.py"
"$work/python2" -c 'import autobahntestsuite.wstest'

rm -rf "$work"/{apt,wheels,tools}
echo "$stamp  $work" > "$work/stamp"
