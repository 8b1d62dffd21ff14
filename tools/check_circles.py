#!/usr/bin/env python3
"""Refuses circles: no two files, of src/ or of one crate, use each other, directly or through others.

What a file reexports is its owner's: `use super::Name` is a use of the file that defines Name. A
module that is only declared (`mod x;`) is not used by that. Tests may look at everything.
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
faults = []


def code_of(text):
    """The text without comments, string literals and the tests at its end."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text)
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


class Uses:
    """Which file uses which, by the paths that their code names."""

    def __init__(self, sources):
        self.sources = sources
        self.modules = {}  # module path, as a tuple, to its file
        for path in sorted(sources.glob("**/*.rs")):
            parts = path.relative_to(sources).with_suffix("").parts
            if parts[-1] == "mod":
                parts = parts[:-1]
            if not any("test" in part for part in parts):
                self.modules[() if parts == ("lib",) else parts] = path
        self.code = {path: code_of(path.read_text()) for path in self.modules.values()}
        self.reexports = {module: self.names_given_on(module) for module in self.modules}

    @staticmethod
    def trees(text):
        """The paths of a use declaration's tree: the name they are bound to, and their parts."""
        text, depth, parts, at = text.strip(), 0, [], 0
        if text.endswith("}") and "{" in text:
            head, rest = text.split("{", 1)
            head = [part for part in head.strip().split("::") if part]
            for n, char in enumerate(rest):
                depth += (char == "{") - (char == "}")
                if (char == "," and depth == 0) or depth < 0:
                    parts.append(rest[at:n])
                    at = n + 1
            for part in parts:
                if part.strip():
                    for name, path in Uses.trees(part):
                        path = [*head, *(path if path != ["self"] else [])]
                        yield (path[-1] if name == "self" else name), path
            return
        path, _, name = text.partition(" as ")
        path = [part.strip() for part in path.split("::") if part.strip()]
        yield (name.strip() or path[-1]), path

    def declarations(self, module, public):
        mark = r"\bpub(?:\([^)]*\))? use " if public else r"\buse "
        for tree in re.findall(mark + r"([^;]+);", self.code[self.modules[module]]):
            yield from self.trees(tree)

    def names_given_on(self, module):
        return {name: path for name, path in self.declarations(module, public=True)}

    def absolute(self, module, path):
        """Where a path leads from, as a module: None if out of here."""
        path = list(path)
        here = list(module)
        if path[0] == "crate":
            return path[1:]
        if path[0] not in ("self", "super"):
            return [*here, *path] if (*module, path[0]) in self.modules else None
        while path and path[0] in ("self", "super"):
            if path.pop(0) == "super":
                if not here:
                    return None
                here.pop()
        return [*here, *path]

    def file_of(self, parts, seen=()):
        """The file that defines what stands at the path."""
        module = ()
        while parts and (*module, parts[0]) in self.modules:
            module, parts = (*module, parts[0]), parts[1:]
        if not parts or module not in self.modules:
            return self.modules.get(module)
        onward = self.reexports[module].get(parts[0])
        if onward and (module, parts[0]) not in seen:
            target = self.absolute(module, onward)
            if target is not None:
                return self.file_of([*target, *parts[1:]], (*seen, (module, parts[0])))
        return self.modules[module]

    def graph(self):
        uses = {path: set() for path in self.code}
        for module, path in self.modules.items():
            given_on = {tuple(p) for p in self.reexports[module].values()}
            paths = [p for _, p in self.declarations(module, public=False) if tuple(p) not in given_on]
            inline = re.sub(r"\buse [^;]+;", "", self.code[path])
            paths += [p.split("::") for p in re.findall(r"(?<![\w:])((?:crate|super)(?:::\w+)+)", inline)]
            locals_ = [m[-1] for m in self.modules if m and m[:-1] == module]
            paths += [p.split("::") for p in re.findall(r"(?<![\w:])(\w+(?:::\w+)+)", inline)
                      if p.split("::")[0] in locals_]
            for parts in paths:
                absolute = self.absolute(module, parts)
                used = self.file_of(absolute) if absolute is not None else None
                if used and used != path:
                    uses[path].add(used)
        return uses


def circles(uses):
    """Sets of files that reach each other."""
    def reach(start):
        found, open_ = set(), [start]
        while open_:
            for used in uses[open_.pop()] - found:
                found.add(used)
                open_.append(used)
        return found
    reached = {path: reach(path) for path in uses}
    whole = {frozenset(b for b in reached[a] if a in reached[b]) for a in uses if a in reached[a]}
    return sorted(sorted(path.relative_to(root).as_posix() for path in one) for one in whole)


for sources in [root / "src", *sorted(root.glob("crates/*/src"))]:
    for circle in circles(Uses(sources).graph()):
        faults.append(f"{', '.join(circle)}: use each other")

for fault in faults:
    print(f"circles: {fault}", file=sys.stderr)
print(f"circles: {len(faults)} faults")
sys.exit(1 if faults else 0)
