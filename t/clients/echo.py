"""Python's "websockets" library against the server of nginx.conf in this folder.

run.sh calls it with the server's ws:// and wss:// addresses and the certificate to trust. Each
check prints one TAP line for run.sh to number; the exit code is 0 only when all of them passed.
"""

import asyncio
import os
import ssl
import sys
import traceback
import urllib.error
import urllib.parse
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

WS, WSS, CERTIFICATE = sys.argv[1:4]
TIME_LIMIT = 20
LIMIT = 16 * 1024 * 1024

CHECKS = []


def check(name):
    def add(body):
        CHECKS.append((name, body))
        return body

    return add


def client(path, base=WS, **options):
    # No pings of the library's own: what goes over the wire is what a check sends.
    options = {"proxy": None, "ping_interval": None, "max_size": None, **options}
    return connect(base + path, **options)


async def http(path):
    """The answer's status and body to a plain GET."""

    def get():
        try:
            with urllib.request.urlopen(WS.replace("ws:", "http:") + path) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def record(name):
    return (await http(f"/record?id={name}"))[1]


async def until(condition):
    """For the server's side of an end that no answer tells: ask again until it is so."""
    while not await condition():
        await asyncio.sleep(0.01)


def pattern(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def echoes(ws, *messages):
    for message in messages:
        await ws.send(message)
        answer = await ws.recv()
        assert type(answer) is type(message), f"{type(message)} came back as {type(answer)}"
        assert answer == message, f"{len(message)} came back as {len(answer)}, or changed"


@check("text and binary, empty ones too")
async def _():
    async with client("/echo") as ws:
        await echoes(ws, "hello", b"\x00\xff\x80", "", b"", "0", b"0")


@check("text of every Unicode plane, NUL and combining characters")
async def _():
    planes = "".join(chr(plane << 16 | 0xE9) for plane in range(17))
    edges = "\u0000\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"
    async with client("/echo") as ws:
        await echoes(ws, planes, edges, "e\u0301 \u200f \U0001f468\u200d\U0001f469", "é" * 40000)


@check("every length from 0 to 300 bytes, sent without waiting")
async def _():
    async with client("/echo") as ws:
        messages = [pattern(size) for size in range(301)]
        for message in messages:
            await ws.send(message)
        for message in messages:
            assert await ws.recv() == message


@check("65,535, 65,536 and 1,048,576 bytes, and the limit of 16 MiB itself")
async def _():
    async with client("/echo") as ws:
        await echoes(ws, *map(pattern, (65535, 65536, 1048576, LIMIT)))


@check("one byte above the limit ends the connection and is told to the handler")
async def _():
    async with client("/limited?id=py-limit") as ws:
        await echoes(ws, pattern(1000))
        await ws.send(pattern(1001))
        try:
            await ws.recv()
            raise AssertionError("a message of 1,001 bytes came back")
        except ConnectionClosed:
            pass
    assert await record("py-limit") == "error: exceeding max payload len"


@check("a fragmented message comes back whole")
async def _():
    async with client("/echo") as ws:
        await ws.send(["Hello", ", ", "", "wörld"])
        assert await ws.recv() == "Hello, wörld"
        await ws.send([pattern(65536)] * 8)
        assert await ws.recv() == pattern(65536) * 8


@check("fragments sent by the server arrive as fragments")
async def _():
    async with client("/frames") as ws:
        for fragments in (["a", "", "bé", "c"], [b"1", pattern(70000), b"3"]):
            # The library ends a fragmented message with an empty last frame.
            await ws.send(fragments)
            received = [fragment async for fragment in ws.recv_streaming()]
            assert received == fragments + [fragments[0][:0]], [len(part) for part in received]


@check("pings between the fragments of a message")
async def _():
    async with client("/echo") as ws:

        async def fragments():
            for part in (b"one ", b"two ", b"three"):
                yield part
                await (await ws.ping(part))

        await ws.send(fragments())
        assert await ws.recv() == b"one two three"


@check("a client's ping is answered, empty and with 125 bytes")
async def _():
    async with client("/echo") as ws:
        for payload in (b"", b"abc", pattern(125)):
            await (await ws.ping(payload))
        # An unasked pong is nothing to answer (RFC 6455 5.5.3).
        await ws.pong(b"unasked")
        await echoes(ws, "still here")


@check("a server's ping reaches the client, and the pong the handler")
async def _():
    for payload in ("", "beat 1", "é" * 62):
        async with client(f"/ping?payload={urllib.parse.quote(payload)}") as ws:
            assert await ws.recv() == f"pong: {payload}"


@check("a frame that arrives in two halves, with read timeouts between them")
async def _():
    text = "in two halves"
    frame = Frame(Opcode.TEXT, text.encode()).serialize(mask=True)

    async with client("/patient") as ws:
        pinged = asyncio.Queue()
        for cut in (1, 2, 4, 6, len(frame) - 1):
            # The library answers a ping at once; the pong would land inside our half frame.
            ws.protocol.send_frame = lambda pong: pinged.put_nowait(bytes(pong.data))
            ws.transport.write(frame[:cut])
            # The first ping may have been under way when the half frame arrived.
            assert [await pinged.get() for _ in range(2)] == [b"idle", b"idle"]
            ws.transport.write(frame[cut:])
            assert await ws.recv() == text, f"cut after {cut} bytes"
            del ws.protocol.send_frame
            while not pinged.empty():
                pinged.get_nowait()
        await echoes(ws, "whole")


@check("close codes and reasons from client to server and back")
async def _():
    cases = ((1000, ""), (1001, "bye"), (1011, ""), (3000, "x" * 123), (4999, "tschüß 👋"))
    for code, reason in cases:
        async with client(f"/echo?id=py-close-{code}") as ws:
            await ws.close(code, reason)
        received = ws.protocol.close_rcvd
        assert (received.code, received.reason) == (code, reason), received
        assert await record(f"py-close-{code}") == f"close: {code} {reason}"


@check("close codes and reasons from server to client and back")
async def _():
    cases = ((1000, ""), (1001, "going"), (1011, ""), (3000, "y" * 123), (4999, "później 👋"))
    for code, reason in cases:
        query = urllib.parse.urlencode({"code": code, "reason": reason, "id": f"py-back-{code}"})
        async with client(f"/close?{query.replace('+', '%20')}") as ws:
            try:
                await ws.recv()
                raise AssertionError("a message came")
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (code, reason), closed
            await ws.wait_closed()
        assert (await record(f"py-back-{code}")).startswith(f"close: {code} ")


@check("a close frame without a code")
async def _():
    async with client("/close?id=py-codeless") as ws:
        await ws.wait_closed()
        assert ws.close_code == 1005, ws.close_code
    assert await record("py-codeless") == "close: none "


@check("a subprotocol is echoed, chosen from a list, or left out")
async def _():
    async with client("/echo", subprotocols=["chat.v1"]) as ws:
        assert ws.subprotocol == "chat.v1"
    async with client("/subprotocol", subprotocols=["v1", "v2", "v3"]) as ws:
        assert ws.subprotocol == "v2"
        await echoes(ws, "chosen")
    async with client("/subprotocol", subprotocols=["v1"]) as ws:
        assert ws.subprotocol is None


@check("a client that offers no compression")
async def _():
    async with client("/echo", compression=None) as ws:
        await echoes(ws, "plain", pattern(100000))


def deflate(**options):
    return client("/messages" + options.pop("query", ""),
                  extensions=[ClientPerMessageDeflateFactory(**options)])


@check("compressed messages of every size, both ways")
async def _():
    async with deflate() as ws:
        assert [str(e) for e in ws.protocol.extensions] == [
            "PerMessageDeflate(remote_no_context_takeover=False, local_no_context_takeover=False, "
            "remote_max_window_bits=15, local_max_window_bits=15)"], ws.protocol.extensions
        await echoes(ws, "", b"", "hello", "hello", pattern(125), pattern(70000), os.urandom(70000),
                     bytes(LIMIT), *("again and again" * n for n in range(50)))
    before, after = map(int, (await http("/counters"))[1].split())
    assert before > LIMIT and after < before / 100, f"{before} bytes became {after}"


@check("every agreement on windows and context takeover")
async def _():
    for ours in ({}, {"client_no_context_takeover": True}, {"server_no_context_takeover": True},
                 {"client_max_window_bits": 9}, {"server_max_window_bits": 9},
                 {"client_max_window_bits": 12, "server_max_window_bits": 10,
                  "client_no_context_takeover": True, "server_no_context_takeover": True}):
        for query in ("", "?server_max_window_bits=9&client_max_window_bits=11",
                      "?server_no_context_takeover=true&client_no_context_takeover=true"):
            async with deflate(query=query, **ours) as ws:
                assert ws.protocol.extensions, f"{ours} {query}: nothing agreed"
                await echoes(ws, *("the same words " * 200,) * 5, pattern(100000), pattern(100000))


@check("a compressed message in fragments, with a ping between")
async def _():
    async with deflate() as ws:
        async def parts():
            yield "one " * 1000
            await (await ws.ping())
            yield "two " * 1000
        await ws.send(parts())
        assert await ws.recv() == "one " * 1000 + "two " * 1000


@check("a message that inflates above the limit is refused with 1009")
async def _():
    async with deflate() as ws:
        try:
            await ws.send(bytes(LIMIT + 1))
            await ws.recv()
            raise AssertionError("a message above the limit came back")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed


@check("requests that are no handshake are told why")
async def _():
    assert await http("/echo") == (400, 'bad "upgrade" request header: nil\n')
    try:
        async with client("/record"):
            raise AssertionError("a plain address took the handshake")
    except InvalidStatus as refused:
        assert refused.response.status_code == 200


@check("200 connections at once, ten messages each")
async def _():
    everybody = asyncio.Barrier(200)

    async def one(number):
        async with client("/echo") as ws:
            await everybody.wait()
            for turn in range(10):
                await echoes(ws, f"{number}/{turn}", pattern(number * 37))

    await asyncio.gather(*map(one, range(200)))


@check("64 MiB from a server that does not wait, to a client that reads by and by")
async def _():
    async with client("/burst?n=1024&size=65536", max_queue=1) as ws:
        for number in range(1, 1025):
            message = await ws.recv()
            assert message[:8] == b"%08d" % number and len(message) == 65536


@check("10,000 small messages in order")
async def _():
    async with client("/burst?n=10000&size=20") as ws:
        for number in range(1, 10001):
            assert (await ws.recv())[:8] == b"%08d" % number


@check("both directions at once over one connection")
async def _():
    async with client("/frames") as ws:

        async def sender():
            for number in range(2000):
                await ws.send(f"{number} " + "z" * 1000)

        sending = asyncio.create_task(sender())
        for number in range(2000):
            assert (await ws.recv()).startswith(f"{number} ")
        await sending


@check("wss with a certificate that is verified")
async def _():
    trust = ssl.create_default_context(cafile=CERTIFICATE)
    async with client("/echo", base=WSS, ssl=trust) as ws:
        await echoes(ws, "over TLS", b"", pattern(65536), pattern(1048576), pattern(LIMIT))
        await (await ws.ping(b"sealed"))
        await ws.send(["frag", "ments"])
        assert await ws.recv() == "fragments"
        await ws.close(4000, "sealed")
    assert ws.protocol.close_rcvd.code == 4000
    async with client("/burst?n=256&size=65536", base=WSS, ssl=trust) as ws:
        for number in range(1, 257):
            assert (await ws.recv())[:8] == b"%08d" % number


@check("50 wss connections at once")
async def _():
    trust = ssl.create_default_context(cafile=CERTIFICATE)

    async def one(number):
        async with client("/echo", base=WSS, ssl=trust) as ws:
            await echoes(ws, f"number {number}", pattern(number * 1000))

    await asyncio.gather(*map(one, range(50)))


@check("100 clients that vanish in the middle of a frame disturb nobody")
async def _():
    async with client("/echo") as witness:

        async def vanish(number):
            base, trust = (WSS, ssl.create_default_context(cafile=CERTIFICATE))
            options = {"base": base, "ssl": trust} if number % 4 == 0 else {}
            ws = await client(f"/echo?id=py-gone-{number}", **options)
            await echoes(ws, "here")
            frame = Frame(Opcode.BINARY, pattern(5000)).serialize(mask=True)
            ws.transport.write(frame[: 1 + number * 40])
            ws.transport.abort()

        await asyncio.gather(*map(vanish, range(100)))
        await echoes(witness, "still here")

        async def told():
            return all([(await record(f"py-gone-{n}")).startswith("error: ") for n in range(100)])

        await until(told)


@check("100 clients that vanish while the server is sending")
async def _():
    async def vanish():
        ws = await client("/burst?n=512&size=65536", max_queue=1)
        await ws.recv()
        ws.transport.abort()

    await asyncio.gather(*[vanish() for _ in range(100)])


@check("no handler and no connection is left")
async def _():
    async def alone():
        running = await record("running")
        status = (await http("/status"))[1]
        return running == "0" and status.startswith("Active connections: 1 ")

    await until(alone)


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
