#!/usr/bin/env python3
"""Proves the layering of ARCHITECTURE.md on the module's sources.

A file may use (`crate::x`) only the layers before its own; `unsafe` stands only where the list
below allows it, each block with a SAFETY line (clippy checks that line); mlua is named in src/lua
alone, nginx's raw bindings in ffi, ngx, src/lua/vm and lib.rs alone. The crates likewise.
"""
import pathlib
import re
import sys

ORDER = ["ffi", "ngx", "session", "hub", "upgrade", "proxy", "conf", "lua"]
UNSAFE = ["src/ffi/", "src/ngx/", "src/lua/vm/", "src/conf/commands.rs", "src/conf/handlers.rs", "src/conf/lookup.rs", "src/conf/start_checks.rs", "src/conf/variables.rs", "src/lib.rs"]
RAW = UNSAFE

root = pathlib.Path(__file__).resolve().parent.parent
faults = []


def code_of(text):
    """The text without comments and string literals: both may speak of anything."""
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', text)


seen = 0
for path in sorted(root.glob("src/**/*.rs")):
    name = path.relative_to(root).as_posix()
    code = code_of(path.read_text())
    seen += 1
    if "/" in name[len("src/"):]:
        layer = name.split("/")[1]
        if layer not in ORDER:
            faults.append(f"{name}: folder {layer} has no place in the order {ORDER}")
            continue
        for used in re.findall(r"\bcrate::(\w+)", code):
            if used in ORDER and ORDER.index(used) > ORDER.index(layer):
                faults.append(f"{name}: uses crate::{used}, which is above {layer}")
    allowed = any(name.startswith(prefix) for prefix in UNSAFE)
    if not allowed and re.search(r"\bunsafe\b", code):
        faults.append(f"{name}: unsafe outside {', '.join(UNSAFE)}")
    if not name.startswith("src/lua/") and name not in ("src/lib.rs",) and re.search(r"\bmlua\b", code):
        faults.append(f"{name}: names mlua")
    if not any(name.startswith(p) for p in RAW) and re.search(r"\b(nginx_sys|crate::ffi)\b", code):
        faults.append(f"{name}: names nginx's raw bindings")

# Of the crates, only ws-hub has unsafe, in its view of shared memory. None names nginx or Lua, and of
# ours only ws-conn names another.
CRATES = {
    "ws-proto": ("forbid", [], []),
    "ws-conn": ("forbid", [], ["ws_proto"]),
    "ws-hub": ("deny", ["memory.rs"], []),
}
for crate, (level, allowed, known) in CRATES.items():
    sources = root / "crates" / crate / "src"
    if f"#![{level}(unsafe_code)]" not in (sources / "lib.rs").read_text():
        faults.append(f"crates/{crate}: {level}(unsafe_code) is gone")
    for path in sorted(sources.glob("**/*.rs")):
        name = path.relative_to(sources).as_posix()
        code = code_of(path.read_text())
        seen += 1
        if name not in allowed and re.search(r"\bunsafe\b|\ballow\(unsafe_code\)", code):
            faults.append(f"crates/{crate}/src/{name}: unsafe outside {allowed or 'nothing'}")
        for used in re.findall(r"\b(ngx|nginx_sys|mlua|ws_proto|ws_conn|ws_hub)::", code):
            if used not in known:
                faults.append(f"crates/{crate}/src/{name}: names {used}")

for fault in faults:
    print(f"layering: {fault}", file=sys.stderr)
print(f"layering: {seen} files, {len(faults)} faults")
sys.exit(1 if faults or not seen else 0)
