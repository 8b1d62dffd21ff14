"""Python's "websockets" library against the ports of ports.conf in this folder: programs written for
lua-websockets. run.sh calls it with the echo's and the test server's ws:// addresses, the wss:// one
that has both, and the certificate to trust. Prints TAP lines as echo.py does.
"""

import asyncio
import ssl
import sys
import traceback
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

ECHO, SERVER, TLS, CERTIFICATE = sys.argv[1:5]
TIME_LIMIT = 20
CHECKS = []
TRUST = ssl.create_default_context(cafile=CERTIFICATE)


def check(name):
    def add(body):
        CHECKS.append((name, body))
        return body

    return add


def client(base, protocol, **options):
    options = {"proxy": None, "ping_interval": None, "max_size": None, **options}
    if base == TLS:
        options["ssl"] = TRUST
    return connect(base + "/", subprotocols=protocol and [protocol], **options)


for BASE in ECHO, TLS:
    name = "wss" if BASE == TLS else "ws"

    @check(f"{name}: echo of text, of every size, in order")
    async def _(base=BASE):
        async with client(base, "echo") as ws:
            assert ws.subprotocol == "echo"
            for text in "hello", "", "é" * 40000, "x" * 1000000:
                await ws.send(text)
                assert await ws.recv() == text
            for n in range(1000):
                await ws.send(str(n))
            assert [await ws.recv() for _ in range(1000)] == [str(n) for n in range(1000)]

    @check(f"{name}: fragments, pings, and the close handshake")
    async def _(base=BASE):
        async with client(base, "echo") as ws:
            await ws.send(["a", "b", "", "c"])
            assert await ws.recv() == "abc"
            await (await ws.ping(b"are you there"))
            await ws.close(4001, "done")
            assert (ws.close_code, ws.protocol.close_rcvd.code) == (4001, 4001)

    @check(f"{name}: a subprotocol that is not there, and none")
    async def _(base=BASE):
        for protocol in "nothing", None:
            try:
                async with client(base, protocol):
                    raise AssertionError("was let in")
            except InvalidStatus as refusal:
                assert refusal.response.status_code == 400, refusal.response

    @check(f"{name}: 100 at a time, some of which vanish")
    async def _(base=BASE):
        async def one(n):
            async with client(base, "echo") as ws:
                for text in f"{n} hello", "y" * n * 100:
                    await ws.send(text)
                    assert await ws.recv() == text
                if n % 3 == 0:
                    ws.transport.abort()

        await asyncio.gather(*[one(n) for n in range(100)])


for BASE in SERVER, TLS:
    name = "wss" if BASE == TLS else "ws"

    @check(f"{name}: the mirror shows everybody what one says")
    async def _(base=BASE):
        async with client(base, "lws-mirror-protocol") as a, client(base, "lws-mirror-protocol") as b:
            for sender in a, b, a:
                await sender.send("10 20 30 40")
                assert [await a.recv(), await b.recv()] == ["10 20 30 40"] * 2

    @check(f"{name}: the test page")
    async def _(base=BASE):
        def get():
            url = base.replace("ws", "http", 1) + "/"
            with urllib.request.urlopen(url, context=TRUST if base == TLS else None) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()

        status, kind, body = await asyncio.to_thread(get)
        assert (status, kind) == (200, "text/html") and b"lws-mirror-protocol" in body


@check("ws: the numbers rise, and start again after a reset")
async def _():
    async with client(SERVER, "dumb-increment-protocol") as ws:
        assert [await ws.recv() for _ in range(3)] == ["0", "1", "2"]
        await ws.send("reset")
        numbers = [int(await ws.recv()) for _ in range(3)]
        assert 0 in numbers, numbers


@check("ws: a message above the limit is 1009")
async def _():
    async with client(ECHO, "echo") as ws:
        await ws.send("x" * 2000000)
        try:
            await ws.recv()
            raise AssertionError("was echoed")
        except ConnectionClosed as closed:
            assert closed.rcvd and closed.rcvd.code == 1009, closed


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
