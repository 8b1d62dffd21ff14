#!/usr/bin/env python3
"""The steps of Dockerfile's stages, for tools/test-image.sh: one instruction a line, NUL between the
stage's name (its number where it has none), the instruction and its text. `--context FOLDER` instead
removes from FOLDER what .dockerignore keeps out of a build.
"""
import fnmatch
import pathlib
import re
import shutil
import sys

root = pathlib.Path(__file__).resolve().parent.parent


def steps():
    """(stage, instruction, text) in the file's order, lines joined, comments gone."""
    text = re.sub(r"^\s*#.*\n", "", (root / "Dockerfile").read_text(), flags=re.M)
    stage, count = "", 0
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "FROM":
            named = re.fullmatch(r"\S+\s+AS\s+(\S+)", rest)
            stage = named[1] if named else str(count)
            count += 1
        yield stage, word, rest


def shrink(context):
    """As docker does: the last pattern that fits a path decides."""
    rules = []
    for line in (root / ".dockerignore").read_text().split("\n"):
        if line and not line.startswith("#"):
            rules.append((line.startswith("!"), line.lstrip("!").removeprefix("**/")))
    for path in sorted(context.glob("**/*")):
        name, out = path.relative_to(context).as_posix(), False
        for kept, pattern in rules:
            if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(path.name, pattern):
                out = not kept
        if out and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif out and path.exists():
            path.unlink()


if sys.argv[1:2] == ["--context"]:
    shrink(pathlib.Path(sys.argv[2]))
else:
    for step in steps():
        print("\0".join(step))
