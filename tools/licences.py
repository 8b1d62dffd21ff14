#!/usr/bin/env python3
"""debian/copyright: whose work the module is made of. Our own part stands in the file; for each crate
that is linked in this writes a paragraph from cargo's metadata and the crate's own licence files, and
each licence once. With --check it only tells whether the file is up to date (for `make check`). The package
and the image carry the file; the source archive has every crate with its licence files in vendor/.
"""
import json
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
TARGET = root / "debian/copyright"
# Where what is made begins.
MARK = "\nFiles: vendor/"
# Of several that a crate offers the first of these.
PREFERRED = ["MIT", "BSD-2-Clause", "Zlib", "Apache-2.0"]
APACHE = "On Debian systems the text is in /usr/share/common-licenses/Apache-2.0."


def cargo(*args):
    return subprocess.run(["cargo", *args], cwd=root, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def linked():
    """(name, version) of what is in the module, ours excepted: neither build scripts nor macros."""
    host = re.search(r"^host: (.*)$", subprocess.run(
        ["rustc", "-vV"], check=True, text=True, stdout=subprocess.PIPE).stdout, re.M)[1]
    tree = cargo("tree", "--locked", "-p", "nginx-lua-websocket", "-e", "normal,no-proc-macro",
                 "--prefix", "none", "--target", host, "--format", "{p}")
    found = {tuple(line.split(" ")[:2]) for line in tree.splitlines() if "(/" not in line}
    return sorted((name, version.lstrip("v")) for name, version in found)


def chosen(expression):
    """One licence of an SPDX expression without AND."""
    offered = re.split(r" OR |/", expression.strip("()"))
    for licence in PREFERRED:
        if licence in offered:
            return licence
    sys.exit(f"licences: no rule for {expression}")


def licence_files(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    return sorted(path for path in folder.iterdir()
                  if re.match(r"(LICEN[CS]E|COPYING|COPYRIGHT)", path.name, re.I) and path.is_file())


def holders(package):
    """The copyright lines of a crate's own files, or its authors."""
    lines = []
    for path in licence_files(package):
        for line in path.read_text(errors="replace").splitlines():
            match = re.match(r"\s*Copyright +(?:\(c\)|©)? *((?:\d{4}|[A-Z][a-z]+ [A-Z]).*)", line, re.I)
            if match and not re.match(r"[a-z]|License|Owner|Holder", match[1]):
                lines.append(match[1].strip())
    nobody = f"the authors of {package['name']}"
    lines = [f"{line}, {nobody}" if line.isdigit() else line for line in lines]
    authors = [re.sub(r" *<.*", "", author) for author in package["authors"]]
    return list(dict.fromkeys(lines)) or authors or [nobody]


def body(licence, packages):
    """A licence's text, from a crate that has it as a file, without the copyright lines."""
    if licence == "Apache-2.0":
        return APACHE
    begin = {"MIT": "Permission is hereby granted", "Zlib": "This software is provided",
             "BSD-2-Clause": "Redistribution and use"}[licence]
    for package in packages:
        for path in licence_files(package):
            at = path.read_text(errors="replace").find(begin)
            if at >= 0 and "APACHE" not in path.name.upper():
                return path.read_text(errors="replace")[at:].strip()
    sys.exit(f"licences: no crate has the text of {licence}")


def paragraph(text):
    return "\n".join(f" {line.strip()}" if line.strip() else " ." for line in text.splitlines())


def made():
    own = TARGET.read_text().split(MARK)[0].rstrip("\n")
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1"))
    known = {(package["name"], package["version"]): package for package in metadata["packages"]}
    out, by_licence = [own], {}
    for key in linked():
        package = known[key]
        licence = chosen(package["license"])
        by_licence.setdefault(licence, []).append(package)
        copyright = "\n".join(f"           {holder}" for holder in holders(package)).strip()
        out += ["", f"Files: vendor/{key[0]}-{key[1]}/*", f"Copyright: {copyright}",
                f"License: {licence}"]
    for licence, packages in sorted(by_licence.items()):
        if f"\nLicense: {licence}\n " not in own:
            out += ["", f"License: {licence}", paragraph(body(licence, packages))]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if TARGET.read_text() != made():
            sys.exit("licences: debian/copyright is not what Cargo.lock says: run make licences")
        print(f"licences: {len(linked())} crates")
    else:
        TARGET.write_text(made())
