#!/usr/bin/env python3
"""Checks what documents promise: every file and heading they link to exists and README leads to every
document, every Lua function of the shims stands in docs/manual.md, every make target in README.md or
CONTRIBUTING.md, every log line from warn on in docs/troubleshooting.md, docs/reference.md is what the
manual says, and nothing speaks of a machine's own paths.
"""
import pathlib
import re
import subprocess
import sys

import log_lines
import make_reference

root = pathlib.Path(__file__).resolve().parent.parent
faults = []
readme = (root / "README.md").read_text()
manual = (root / "docs/manual.md").read_text()
documents = sorted(root.glob("*.md")) + sorted(root.glob("docs/*.md"))


def anchors(path):
    """What "#..." may name in a document: its headings, as GitHub makes links of them."""
    text = path.read_text()
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
             for title in re.findall(r"^#+ (.+)$", text, re.M)}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


for doc in documents:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", doc.read_text()):
        path = doc.parent / target if target else doc
        if not path.exists():
            faults.append(f"{doc.name}: links to {target}, which does not exist")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            faults.append(f"{doc.name}: links to {target}#{anchor}, which is no heading there")

linked = {(root / target).resolve() for target in re.findall(r"\]\(([^)#:]+)", readme)}
faults += [f"README.md: leads nowhere to {doc.relative_to(root)}" for doc in documents
           if doc not in linked and doc.name != "README.md"]

# The other APIs are described by their own systems.
OWN = ("resty", "message", "hub", "listen", "vm")
for shim in sorted(shim for api in OWN for shim in root.glob(f"src/lua/{api}/*.lua")):
    names = re.findall(r"^(?:function )?_M[.:](\w+)", shim.read_text(), re.M)
    for name in names:
        if name != "_VERSION" and not re.search(rf"\b{name}\b", manual):
            faults.append(f"docs/manual.md: {name} of {shim.name} is not described")

for target in re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text(), re.M):
    if not re.search(rf"make {target}\b", readme + (root / "CONTRIBUTING.md").read_text()):
        faults.append(f"README.md, CONTRIBUTING.md: make {target} is not described")

# One version everywhere.
version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text(), re.M)[1]
for place, pattern in [("CHANGELOG.md", r"^## Changes with nginx-lua-websocket (\S+), \d+ \w{3} \d{4}$"),
                       ("debian/changelog", r"^nginx-lua-websocket \((\S+)-\d+\)"),
                       ("src/lua/message/websocket.lua", r'_VERSION = "(.*)"')]:
    found = re.search(pattern, (root / place).read_text(), re.M)
    if not found or found[1] != version:
        faults.append(f"{place}: is at {found and found[1]}, Cargo.toml at {version}")

# Log lines: in a table's first column, with an ellipsis for each value.
trouble = (root / "docs/troubleshooting.md").read_text()
told = " ".join(re.findall(r"`[^`]*`", trouble))
for name, text in log_lines.lines(root):
    if text not in told:
        faults.append(f'docs/troubleshooting.md: "{text}" of {name} is not explained')

faults += make_reference.faults()

tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True).stdout.split()
for name in tracked:
    path = root / name
    if name.startswith("tools/check_docs") or not path.is_file() or path.stat().st_size > 1 << 20:
        continue
    text = path.read_text(errors="ignore")
    if re.search(r"/work/main|(?:^|[\s\"'=:])/root/|artifactory", text):
        faults.append(f"{name}: carries a path or a host name of one machine")

for fault in faults:
    print(f"docs: {fault}", file=sys.stderr)
print(f"docs: {len(faults)} faults")
sys.exit(1 if faults else 0)
