"""Hours in minutes: every way a connection comes to the module, under peers that behave and peers that
do not (t/lib/storm.py), with TLS, compression, pushes, clients and reloads, SOAK_SECONDS (600) long.
Memory is taken at rest, halfway and at the end: by then it must have come to a stand.

Prints its figures, and fails where a connection is left, a line above info is a peer's, or memory grows.
"""

import os
import random
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "t"))

from lib import storm  # noqa: E402
from lib.live import Nginx, await_  # noqa: E402
from lib.lws import is_open  # noqa: E402
from lib.peer import CLOSE, TEXT, Peer, context, frame  # noqa: E402

SECONDS = int(os.environ.get("SOAK_SECONDS") or 600)
RELOAD_EVERY = max(3, SECONDS / 40)
# What memory may have grown by between the middle and the end: a leak of 1 KB in each of the tens of
# thousands of connections between would be far above.
RSS_GROWTH, HEAP_GROWTH = 1.10, 1.10


class Soak:
    def __init__(self, ng):
        self.ng, self.over = ng, threading.Event()
        self.counts, self.faults = {}, []

    def count(self, what, n=1):
        self.counts[what] = self.counts.get(what, 0) + n

    def loop(self, what, body):
        """A thread that does `body` again and again; what goes wrong is a fault of the run."""
        def run():
            while not self.over.is_set():
                try:
                    body()
                    self.count(what)
                except Exception as error:  # any failure is the run's
                    self.faults.append(f"{what}: {type(error).__name__}: {error}")
                    time.sleep(0.1)
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def polite(self, seed):
        """A peer that behaves is served, whatever the others do and whichever worker it meets."""
        dice, tls = random.Random(seed), context()

        def talk(port, path, lines):
            peer = Peer(self.ng, path, port=port, lines=lines,
                        tls=tls if port in storm.SECRET else None)
            if port == storm.TARANTOOL:
                peer.frame()  # its first ping
            for size in 1, 1000, 70000:
                text = bytes([65 + dice.randrange(26)]) * size
                peer.send(frame(TEXT, text))
                first, answer = peer.frame()
                if (first, answer[:2]) == (CLOSE, b"\x03\xe9"):  # a reload's goodbye
                    return peer.close()
                if storm.EXTENSION in lines:
                    assert first in (0x81, 0xc1), f"{first:#x} {answer[:20]}"
                else:
                    assert (first, answer) == (TEXT, text), "another echo"
            peer.send(frame(CLOSE, b"\x03\xe8"))
            assert peer.frame()[0] == CLOSE, "another close frame"
            peer.close()

        def visit():
            place = dice.choice([place for place in storm.PLACES
                                 if place[1] in ("/frames", "/messages", "/")])
            try:
                talk(*place)
            except Exception as error:
                raise AssertionError(f"{place}: {error}") from error
        return visit

    def push(self):
        self.ng.get("/push-one")
        time.sleep(0.02)

    def client(self):
        self.ng.get(f"/client?scheme={random.choice(('ws', 'wss'))}")
        time.sleep(0.05)

    def reload(self):
        if self.over.wait(RELOAD_EVERY):
            return
        before = set(self.ng.workers())
        self.ng.signal("HUP")
        await_(lambda: set(self.ng.workers()) - before and not set(self.ng.children()) & before,
               "the old workers end", 120)

    def rest(self):
        """Memory of the worker and its Lua heap once nobody is connected."""
        await_(lambda: self.ng.sessions() == 0 and self.ng.connections() == 0, "rest", 120)
        heap = float(self.ng.get("/heap"))
        rss = 0
        for pid in self.ng.workers():
            with open(f"/proc/{pid}/status") as status:
                rss += int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])
        return rss, heap

    def phase(self, seconds, storms, reloads):
        self.over.clear()
        threads = [self.loop("hostile connections", storm.Storm(random.random()).visit)
                   for _ in range(storms)]
        threads += [self.loop("polite conversations", self.polite(n)) for n in range(2)]
        threads += [self.loop("pushes", self.push), self.loop("clients", self.client)]
        if reloads:
            threads.append(self.loop("reloads", self.reload))
        time.sleep(seconds)
        self.over.set()
        for thread in threads:
            thread.join()


def main():
    ng = Nginx()
    sections = storm.sections(ng)
    sections["server"] += """
        location = /push-one { content_by_lua_block {
            require("resty.websocket").publish("storm", ("p"):rep(math.random(2000)))
        } }
    """
    ng.write(**sections)
    ng.start()
    fake = storm.Fake(0)
    soak, figures = Soak(ng), []
    try:
        for port in storm.LWS, storm.LWS_TLS, storm.TARANTOOL:
            await_(lambda: is_open(port), f"port {port} opens")
        # Reloads first; memory is compared within one generation of workers, whose first third
        # fills caches and pools.
        soak.phase(SECONDS * 0.25, 3, True)
        for part in 0.25, 0.25, 0.25:
            soak.phase(SECONDS * part, 3, False)
            figures.append(soak.rest())
        left = ng.connections(), ng.sessions()
        lines = [line for line in ng.loud() if not re.search(storm.OTHERS, line)]
        code = ng.stop()
        lines += [line for line in ng.loud() if not re.search(storm.OTHERS, line)]
    finally:
        fake.close()
        ng.kill()

    for what, n in sorted(soak.counts.items()):
        print(f"{what:24} {n}")
    (_, (rss, heap), (rss_end, heap_end)) = figures
    print(f"{'connections at the end':24} {left[0]} (sessions {left[1]})")
    print(f"{'lines above info':24} {len(lines)}")
    print(f"{'RSS':24} {rss} -> {rss_end} KB, {rss_end / rss:.3f}")
    print(f"{'Lua heap':24} {heap:.0f} -> {heap_end:.0f} KB, {heap_end / heap:.3f}")
    faults = soak.faults + lines
    if left != (0, 0):
        faults.append("connections are left")
    if rss_end / rss > RSS_GROWTH:
        faults.append("RSS grows")
    if heap_end / heap > HEAP_GROWTH:
        faults.append("the Lua heap grows")
    if code != 0:
        faults.append(f"nginx ended with {code}")
    for fault in faults[:20]:
        print(f"FAULT: {fault}")
    sys.exit(1 if faults else 0)


main()
