#!/usr/bin/env python3
"""Checks what documents promise: every file and heading they link to, and every file they name, exists;
README leads to every document, every Lua function and method of the shims stands in lua/meta and from
there in docs/manual.md, every make target in README.md or CONTRIBUTING.md, every log line from warn on
in docs/troubleshooting.md, docs/reference.md is what the manual says, and nothing speaks of a machine's
own paths.
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


def prose(path):
    """Without blocks of code, in which a # or a bracket is something else."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)


def anchors(path):
    """What "#..." may name in a document: its headings, as GitHub makes links of them, of which the
    second of a name has a number."""
    text = prose(path)
    slugs, seen = set(re.findall(r'<a id="([^"]+)">', text)), {}
    for title in re.findall(r"^#+ (.+)$", text, re.M):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        slugs.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return slugs


for doc in documents + [root / "bench/RESULTS.md", root / "conformance/RESULTS.md"]:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", prose(doc)):
        path = doc.parent / target if target else doc
        if not path.exists():
            faults.append(f"{doc.name}: links to {target}, which does not exist")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            faults.append(f"{doc.name}: links to {target}#{anchor}, which is no heading there")

# Files in code, from the root or from src; CHANGELOG.md may name what there was.
FOLDERS = [path.name for base in (root, root / "src") for path in base.iterdir()
           if path.is_dir() and path.name not in ("build", "target") and path.name[0] != "."]
for doc in documents:
    for name in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]+)`", prose(doc)):
        places = [root, root / "src"] if doc.name == "ARCHITECTURE.md" else [root]
        if doc.name != "CHANGELOG.md" and not any(list(place.glob(name)) for place in places):
            faults.append(f"{doc.name}: names {name}, which does not exist")

linked = {(root / target).resolve() for target in re.findall(r"\]\(([^)#:]+)", readme)}
faults += [f"README.md: leads nowhere to {doc.relative_to(root)}" for doc in documents
           if doc not in linked and doc.name != "README.md"]

# Functions and methods: of the shims in the annotations, which t/operations/annotations.t compares with
# the real tables; of the annotations in the manual. The other APIs are described by their own systems,
# and opening.lua is a part that no program sees.
OTHERS = ("tarantool", "websockets")
PUBLIC = r"^ *function (?:_M|methods|server|client|stream)[.:](\w+)"
annotations = {path: path.read_text() for path in sorted(root.glob("lua/meta/resty/**/*.lua"))}
annotated = " ".join(annotations.values())
for shim in sorted(root.glob("src/lua/*/*.lua")):
    if shim.parent.name not in OTHERS and shim.name != "opening.lua":
        for name in re.findall(PUBLIC, shim.read_text(), re.M):
            if not re.search(rf"[.:]{name}\(", annotated):
                faults.append(f"lua/meta: {name} of {shim.relative_to(root)} is not annotated")
for path, text in annotations.items():
    for name in re.findall(r"^function \w+[.:](\w+)", text, re.M):
        if not re.search(rf"[.:]{name} ?[({{]", manual):
            faults.append(f"docs/manual.md: {name} of {path.relative_to(root)} is not described")

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
