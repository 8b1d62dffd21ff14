"""nginx with a library of t/lib loaded before its own, which does what the system does in bad times. The
test tells it how by a few bytes of a file that both have (STATE)."""

import os
import shutil
import subprocess
from contextlib import contextmanager

from .live import REPO, Nginx, equal


class Library:
    """t/lib/NAME.c, built, and as many bytes to tell it by."""

    def __init__(self, name, size=0):
        self.folder = f"{REPO}/build/test-{name}-{os.getpid()}"
        os.makedirs(self.folder)
        self.path, self.state = f"{self.folder}/{name}.so", f"{self.folder}/state"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-fno-builtin", "-Wall", "-o", self.path,
                        f"{REPO}/t/lib/{name}.c"], check=True)
        with open(self.state, "wb") as file:
            file.write(bytes(size))

    def __getitem__(self, n):
        with open(self.state, "rb") as file:
            file.seek(n)
            return file.read(1)[0]

    def __setitem__(self, n, value):
        with open(self.state, "r+b", buffering=0) as file:
            file.seek(n)
            file.write(bytes([value]))

    def remove(self):
        shutil.rmtree(self.folder)


class Preloaded(Nginx):
    """nginx with a Library."""

    def __init__(self, library, **sections):
        self.library = library
        super().__init__(**sections)

    def command(self, *more):
        return ["env", f"LD_PRELOAD={self.library.path}", f"STATE={self.library.state}", *super().command(*more)]

    @contextmanager
    def running(self, tap):
        """Started for the tests of the block; that it ends is the last one."""
        try:
            self.start()
            yield
            tap.attempt("nginx ends", lambda: equal(self.stop(), 0, "exit code of nginx"))
        finally:
            self.kill()
            self.library.remove()
        tap.done()
