#!/usr/bin/env python3
"""docs/reference.md from docs/manual.md: the same tables, an entry for each name, as in a manual page, and an
index. The manual is the one source; `make reference` writes the file, and with --check this only tells
whether it is up to date (for tools/check_docs.py), and whether its directives and variables are
those of the source.
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
SOURCE = root / "docs/manual.md"
TARGET = root / "docs/reference.md"
# How those sections begin that are no reference.
OTHER = "Differences"
CODE = re.compile(r"`[^`]+`")
HEAD = """# Reference

<!-- Made from manual.md by `make reference`: change manual.md. -->

NAME: nginx-lua-websocket, native WebSockets for ngx_lua handlers, as an nginx dynamic module.

SYNOPSIS: `load_module modules/ngx_http_lua_websocket_module.so;` after ngx_lua's line, then `require "resty.websocket"` or one of
the other modules below, or a directive.
"""


def sections():
    """(title, text) of the manual's sections, in its order."""
    parts = re.split(r"^## (.+)\n", SOURCE.read_text(), flags=re.M)[1:]
    pairs = zip(parts[::2], parts[1::2])
    return [pair for pair in pairs if not pair[0].startswith(OTHER)]


def cells(line):
    """Of a table's row; a bar in code is written as \\| there."""
    return [cell.strip().replace("\\|", "|")
            for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def names(cell):
    """The code spans of a first column, each of which is a thing of its own."""
    return [span[1:-1] for span in CODE.findall(cell)] or [cell]


def sentence(text):
    return text if not text or text.endswith(".") else text + "."


class Reference:
    """The text that is being made, and the names for its index."""

    def __init__(self):
        self.out, self.index, self.title = [HEAD], [], ""

    def entry(self, name, lines):
        anchor = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        while anchor in {known for _, known, _ in self.index}:
            anchor += "-"
        self.index.append((name, anchor, self.title))
        self.out.append(f'<a id="{anchor}"></a>\n#### `{name}`\n')
        self.out += [line + "\n" for line in lines if line]

    def directive(self, names, default, meaning, context):
        for name in names:
            if name.startswith("("):
                continue
            word = name.split()[0]
            self.entry(word, [
                f"Syntax: `{name};`  ",
                f"Default: {f'`{word} {default};`' if default else '–'}  ",
                f"Context: {context}\n",
                sentence(meaning),
            ])

    def table(self, rows):
        head, body = cells(rows[0]), [cells(row) for row in rows[2:]]
        kind = head[0]
        if kind == "call":
            for first, meaning, *_ in body:
                for name in names(first):
                    self.entry(name, [sentence(meaning)])
        elif kind == "directive":
            for first, default, meaning in body:
                place = re.search(r"\((http|location)\)$", first)
                self.directive(names(first), default, meaning,
                               place[1] if place else "http, server, location")
        elif kind.startswith("option") and len(head) == 3:
            for first, default, meaning in body:
                given = f" (default: {default})" if default else ""
                self.out.append(f"- {first}{given}{': ' + meaning if meaning else ''}\n")
        elif "error" in kind:
            self.out.append(f"ERRORS{': ' + kind if kind != 'error' else ''}\n")
            for first, *rest in body:
                meaning = "; ".join(text for text in rest if text not in ("", "–"))
                self.out.append(f"- {first}{': ' + meaning if meaning else ''}\n")
        else:
            self.out.append("\n".join(rows) + "\n")
            return
        self.out.append("")

    def section(self, title, text):
        self.title = title
        self.out.append(f"## {title}\n")
        lines, table = text.strip().split("\n") + [""], []
        for line in lines:
            if line.startswith("|"):
                table.append(line)
                continue
            if table:
                self.table(table)
                table = []
            heading = re.match(r"### (.+)", line)
            if heading and "`" in heading[1] and "=" in heading[1]:
                self.entry(heading[1].strip("`"), [])
            else:
                self.out.append(line)

    def text(self):
        listed = "\n".join(
            f"- [`{name}`](#{anchor}), {title}" for name, anchor, title in
            sorted(self.index, key=lambda entry: (entry[0].split(" = ")[-1].lower(), entry[2])))
        whole = "\n".join(self.out) + f"\n## Index\n\n{listed}\n"
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^(- .+)\n\n(?=- )", r"\1\n", whole))


def made():
    reference = Reference()
    for title, text in sections():
        reference.section(title, text)
    return reference.text()


def faults():
    """What is not as the manual has it: for tools/check_docs.py."""
    found = []
    if not TARGET.exists() or TARGET.read_text() != made():
        found.append("docs/reference.md: not what docs/manual.md says now: run make reference")
    text = dict(sections())
    for what, path, pattern, section in [
            ("directive", "src/conf/commands.rs", r'c"(websocket_\w+)"', "Directives"),
            ("variable", "src/conf/variables.rs", r'c"(websocket_\w+)"', "Variables")]:
        real = set(re.findall(pattern, (root / path).read_text()))
        mark = r"`\$" if what == "variable" else "`"
        rows = re.findall(r"^\|(.*?)\|", text[section], re.M) if what == "directive" else [text[section]]
        told = {name for row in rows for name in re.findall(mark + r"(websocket_\w+)", row)}
        found += [f"docs/manual.md: {what} {name} is not described" for name in sorted(real - told)]
        found += [f"docs/manual.md: {what} {name} does not exist" for name in sorted(told - real)]
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        for fault in faults():
            print(f"reference: {fault}", file=sys.stderr)
        sys.exit(1 if faults() else 0)
    TARGET.write_text(made())
