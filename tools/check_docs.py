#!/usr/bin/env python3
"""Checks what documents promise: every file they link to exists, every Lua function of the shims and
every make target stands in README.md, every log line from warn on in
docs/troubleshooting.md, docs/reference.md is what README says, and nothing speaks of a machine's own paths.
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

for doc in sorted(root.glob("*.md")) + sorted(root.glob("docs/*.md")):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", doc.read_text()):
        if not (doc.parent / target).exists():
            faults.append(f"{doc.name}: links to {target}, which does not exist")

# The other APIs are described by their own systems.
OWN = ("resty", "message", "hub", "listen", "vm")
for shim in sorted(shim for api in OWN for shim in root.glob(f"src/lua/{api}/*.lua")):
    names = re.findall(r"^(?:function )?_M[.:](\w+)", shim.read_text(), re.M)
    for name in names:
        if name != "_VERSION" and not re.search(rf"\b{name}\b", readme):
            faults.append(f"README.md: {name} of {shim.name} is not described")

for target in re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text(), re.M):
    if not re.search(rf"make {target}\b", readme + (root / "CONTRIBUTING.md").read_text()):
        faults.append(f"README.md, CONTRIBUTING.md: make {target} is not described")

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
