#!/usr/bin/env python3
"""The crates of Cargo.lock by deny.toml's rules: licences, wildcards, registries; and by our own:
none asks for a newer Rust than ours, and whoever names the smallest Rust names the same.

cargo-deny reads the same file and is run where it is installed. It is 400 crates to build, so
that what needs no network is proved here for everybody; yanked crates and advisories are its alone.
"""
import json
import pathlib
import re
import subprocess
import sys
import tomllib

root = pathlib.Path(__file__).resolve().parent.parent
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
faults = []


def output(*command):
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


rules = tomllib.loads((root / "deny.toml").read_text())
# Whatever else deny.toml may say one day has to be proved here first.
KNOWN = {
    "licenses": {"allow"},
    "advisories": {"yanked"},
    "bans": {"multiple-versions", "wildcards", "allow-wildcard-paths"},
    "sources": {"unknown-registry", "unknown-git"},
}
for section, keys in rules.items():
    for key in set(keys) - KNOWN.get(section, set()):
        faults.append(f"deny.toml: nobody here knows {section}.{key}")
allowed = set(rules["licenses"]["allow"])


def is_allowed(expression):
    """Whether one way to read an SPDX expression has allowed licences alone. AND binds tighter than
    OR; older crates write a slash for OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        good = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            good = both() or good
        return good

    def both():
        good = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            good = one() and good
        return good

    def one():
        token = tokens.pop(0)
        if token == "(":
            good = either()
            tokens.pop(0)
            return good
        if tokens and tokens[0] == "WITH":
            token = f"{token} {tokens.pop(0)} {tokens.pop(0)}"
        return token in allowed

    return either() and not tokens


def version(text):
    return tuple(int(part) for part in text.split("."))


host = re.search(r"^host: (.*)", output("rustc", "-vV"), re.M)[1]
packages = json.loads(
    output("cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={host}")
)["packages"]
ours = next(p for p in packages if p["name"] == "nginx-lua-websocket")["rust_version"]
for package in packages:
    name = f"{package['name']} {package['version']}"
    if not is_allowed(package["license"] or "none"):
        faults.append(f"{name}: licence {package['license']} is not allowed by deny.toml")
    if package["source"] not in (None, REGISTRY):
        faults.append(f"{name}: comes from {package['source']}")
    if version(package["rust_version"] or "0") > version(ours):
        faults.append(f"{name}: asks for Rust {package['rust_version']}, and we for {ours}")
    if package["source"] is None:
        if package["rust_version"] != ours:
            faults.append(f"{name}: rust-version {package['rust_version']} is not {ours}")
        for used in package["dependencies"]:
            if used["req"] == "*" and "path" not in used:
                faults.append(f"{name}: any version of {used['name']} would do")

# Where else the smallest Rust is named.
for file, pattern in {
    "tools/deps.sh": r"^RUST=(\S+)",
    "docs/openresty.md": r"Rust ([\d.]+) or newer",
    "bench/Cargo.toml": r'^rust-version = "(.*)"',
}.items():
    found = re.search(pattern, (root / file).read_text(), re.M)
    if not found or found[1] != ours:
        faults.append(f"{file}: does not name Rust {ours}")

for fault in faults:
    print(f"crates: {fault}", file=sys.stderr)
print(f"crates: {len(packages)} crates, {len(faults)} faults")
sys.exit(1 if faults or not packages else 0)
