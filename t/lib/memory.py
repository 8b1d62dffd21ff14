"""What memory a process has, by /proc, and whether that says anything: under valgrind and AddressSanitizer it
is theirs as well, which keep what was freed. Cases of nothing else say `memory=True` and are skipped there,
others ask `within`."""

import os

CHECKED = ("valgrind" if os.environ.get("TEST_NGINX_USE_VALGRIND") else
           "AddressSanitizer" if os.environ.get("TEST_NGINX_ASAN") else None)
SKIPPED = f"{CHECKED} has memory of its own"


def resident(*pids):
    """Bytes of memory that are these processes' own."""
    pages = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm") as f:
            fields = f.read().split()
        pages += int(fields[1]) - int(fields[2])
    return pages * 4096


def peak(pid):
    """The most bytes that a process ever held."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))


def within(grown, most, what=""):
    """Memory has grown by fewer bytes than that."""
    if CHECKED:
        print(f"# memory is not compared: {SKIPPED}")
    else:
        assert grown < most, f"{grown} bytes more{what and ': '}{what}, {most} at most"
