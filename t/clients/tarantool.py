"""Python's "websockets" library against the ports of tarantool.conf in this folder. run.sh calls it
with their ws:// and wss:// addresses and the certificate to trust. Prints TAP lines as echo.py does.
"""

import asyncio
import ssl
import sys
import traceback

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PLAIN, TLS, CERTIFICATE = sys.argv[1:4]
TIME_LIMIT = 20
CHECKS = []
TRUST = ssl.create_default_context(cafile=CERTIFICATE)


def check(name, bases=(PLAIN, TLS)):
    """One check for each address."""
    def add(body):
        for base in bases:
            CHECKS.append((f"{base.split(':')[0]}: {name}", lambda base=base: body(base)))
        return body

    return add


def client(base, **options):
    options = {"proxy": None, "ping_interval": None, "max_size": None, **options}
    if base == TLS:
        options["ssl"] = TRUST
    return connect(base + "/any/path?query", **options)


@check("echo of text and binary, of every size, in order; compression is declined")
async def _(base):
    async with client(base, compression="deflate") as ws:
        assert not ws.protocol.extensions
        for message in "hello", "", b"\x00\xff", "é" * 40000, b"x" * 3000000:
            await ws.send(message)
            assert await ws.recv() == message
        for n in range(1000):
            await ws.send(str(n))
        assert [await ws.recv() for _ in range(1000)] == [str(n) for n in range(1000)]


@check("fragments stay fragments; pings; the close handshake")
async def _(base):
    async with client(base) as ws:
        await ws.send(["a", "é", "", "c"])
        assert [part async for part in ws.recv_streaming()] == ["a", "é", "", "c", ""]
        await (await ws.ping(b"are you there"))
        await ws.close(4001, "done")
        assert ws.protocol.close_rcvd.code == 1000


@check("the server closes")
async def _(base):
    async with client(base) as ws:
        await ws.send("close")
        try:
            await ws.recv()
            raise AssertionError("not closed")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4321, "as you wish"), closed


@check("the subprotocol that the program's hook chooses")
async def _(base):
    async with client(base, subprotocols=["chat", "superchat"]) as ws:
        assert ws.subprotocol == "chat"


@check("a text that is no UTF-8 is 1007")
async def _(base):
    async with client(base) as ws:
        await ws.send(b"\xff", text=True)
        try:
            await ws.recv()
            raise AssertionError("was echoed")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (1007, "utf8 data invalid"), closed


@check("200 at a time, some of which vanish")
async def _(base):
    async def one(n):
        async with client(base) as ws:
            for text in f"{n} hello", "y" * n * 100:
                await ws.send(text)
                assert await ws.recv() == text
            if n % 3 == 0:
                ws.transport.abort()

    await asyncio.gather(*[one(n) for n in range(200)])


@check("a client that only listens answers the server's pings", bases=[TLS])
async def _(base):
    async with client(base) as ws:
        await asyncio.sleep(9)  # two pings of tarantool.conf's
        await ws.send("still there")
        assert await ws.recv() == "still there"


async def main():
    failed = 0
    for name, body in CHECKS:
        try:
            await asyncio.wait_for(body(), TIME_LIMIT)
            print(f"ok - {name}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok - {name}", flush=True)
            print("# " + traceback.format_exc().rstrip().replace("\n", "\n# "), flush=True)
    return 1 if failed or not CHECKS else 0


sys.exit(asyncio.run(main()))
