"""Servers of Python's "websockets" for this module's Lua client: client.lua connects to them.

run.sh gives the ports for ws:// and wss://, and certificate and key of the latter; it ends the
process by SIGTERM. A path is one behaviour each, see HANDLERS.
"""

import asyncio
import http
import json
import signal
import ssl
import sys
import urllib.parse

from websockets.asyncio.server import serve

WS_PORT, WSS_PORT, CERTIFICATE, KEY = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
HANDLERS = {}


def handler(body):
    HANDLERS["/" + body.__name__] = body
    return body


@handler
async def echo(ws):
    async for message in ws:
        await ws.send(message)


@handler
async def facts(ws):
    """What the library read in the request, as JSON; sorted, so that it can be compared."""
    request = ws.request
    await ws.send(json.dumps({
        "path": request.path,
        "subprotocol": ws.subprotocol,
        "host": request.headers.get("Host"),
        "origin": request.headers.get("Origin"),
        "x-one": request.headers.get_all("X-One"),
        "extensions": [str(extension) for extension in ws.protocol.extensions],
    }, sort_keys=True))


@handler
async def fragments(ws):
    await ws.send(["one ", "two ", "three"])
    await ws.send(await ws.recv())  # joined from the fragments of the client


@handler
async def ping(ws):
    await (await ws.ping("are you there?"))
    await ws.send("pong came")
    await ws.wait_closed()


@handler
async def close(ws):
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(ws.request.path).query)
    await ws.close(int(query["code"][0]), query["reason"][0])


@handler
async def closed(ws):
    """Tells over the second connection how the first one was closed."""
    if ws.request.path.endswith("?tell"):
        await ws.send(await closed.by)
    else:
        closed.by = asyncio.get_running_loop().create_future()
        await ws.wait_closed()
        closed.by.set_result(f"{ws.close_code} {ws.close_reason}")


async def dispatch(ws):
    await HANDLERS[urllib.parse.urlsplit(ws.request.path).path](ws)


def select_subprotocol(ws, offered):
    # None where nothing is offered; the library's own rule refuses such a client.
    return next((name for name in ("v2", "v1") if name in offered), None)


def refuse(connection, request):
    if request.path == "/refused":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not for you")
    return None


async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE, KEY)
    options = {"select_subprotocol": select_subprotocol, "max_size": None, "ping_interval": None,
               "process_request": refuse}
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)
    async with (serve(dispatch, "127.0.0.1", WSS_PORT, ssl=tls, **options),
                serve(dispatch, "127.0.0.1", WS_PORT, **options)):
        await stop


asyncio.run(main())
