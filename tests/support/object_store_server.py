"""An S3 server of its own process, moto's, behind a proxy that can spoil a share of the requests.

Run as a script it prints its endpoint and serves until its standard input ends, so that it does not
outlive who started it. `object_store.ObjectStore` is its client. Besides S3 the endpoint answers
`POST /-/faults` (a JSON object: `Faults`) and `GET /-/counts` (a JSON object: `Counts`).

The proxy passes conditional writes on one at a time: S3 decides between two of them, moto's
threads may not.
"""

import asyncio
import json
import logging
import random
import re
import sys
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from moto.server import ThreadedMotoServer
from yarl import URL

KEPT = 20_000
"""Requests that are remembered one by one, the last ones."""

LARGEST = 1 << 30
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade"}
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{text}</Message>'
    "</Error>"
)
_ERRORS = ((500, "InternalError"), (503, "ServiceUnavailable"), (503, "SlowDown"))


@dataclass(frozen=True)
class Faults:
    """Shares of the requests that are spoilt, each from 0 to 1, together at most 1.

    Attributes:
        dropped: The connection ends before the request is carried out.
        lost: The request is carried out, and the connection ends before the answer.
        truncated: The connection ends in the middle of the answer's body, or of its head.
        short: The body of an answer ends early, and its head says that it should.
        failed: The answer is the status 500 or 503.
        stalled: Nothing happens for `stall` seconds, and then the connection ends.
        stall: Seconds.
        only: Regular expression that `<operation> <path>` must match for a request to be spoilt.
        at_most: How many requests are spoilt; None: any number.
        seed: Of the random numbers.
    """

    dropped: float = 0.0
    lost: float = 0.0
    truncated: float = 0.0
    short: float = 0.0
    failed: float = 0.0
    stalled: float = 0.0
    stall: float = 30.0
    only: str = ""
    at_most: int | None = None
    seed: int = 0


KINDS = ("dropped", "lost", "truncated", "short", "failed", "stalled")


@dataclass
class Counts:
    """What was done since the last `POST /-/faults`.

    Attributes:
        operations: Requests, by GET, PUT, HEAD, DELETE, POST, and LIST.
        faults: Requests that were spoilt, by kind.
        log: The last ones, each as `<operation> <path>` with ` !<fault>` behind it.
    """

    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))


class Proxy:
    """Passes requests on to a server and spoils some."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._writing = asyncio.Lock()
        self._session: ClientSession | None = None
        self._set(Faults())

    def _set(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._counts = Counts()

    async def open(self, _: web.Application) -> None:
        """Make what needs a running event loop."""
        self._session = ClientSession(
            auto_decompress=False,
            connector=TCPConnector(limit=0, force_close=True),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        if request.path == "/-/faults":
            self._set(Faults(**await request.json()))
            return web.json_response({})
        if request.path == "/-/counts":
            return web.json_response(
                {
                    "operations": self._counts.operations,
                    "faults": self._counts.faults,
                    "log": list(self._counts.log),
                }
            )
        operation = _operation(request)
        fault = self._next_fault(f"{operation} {request.path}")
        self._counts.operations[operation] += 1
        self._counts.log.append(f"{operation} {request.path}" + (f" !{fault}" if fault else ""))
        if fault:
            self._counts.faults[fault] += 1
        if fault == "stalled":
            await asyncio.sleep(self._faults.stall)
        if fault in ("dropped", "stalled"):
            return _cut(request)
        body = await request.read()
        if fault == "failed":
            status, code = self._random.choice(_ERRORS)
            content = _ERROR.format(code=code, text="Please try again.")
            return web.Response(status=status, text=content, content_type="application/xml")
        response = await self._pass_on(request, body)
        if fault == "lost":
            return _cut(request)
        if fault == "short" and request.method == "GET" and response.body:
            return _response(
                response.status, response.headers, response.body[: len(response.body) // 2]
            )
        if fault == "truncated":
            return await _truncated(request, response)
        return response

    def _next_fault(self, line: str) -> str | None:
        faults = self._faults
        if faults.only and not re.search(faults.only, line):
            return None
        drawn = self._random.random()
        if faults.at_most is not None and self._counts.faults.total() >= faults.at_most:
            return None
        for kind in KINDS:
            drawn -= getattr(faults, kind)
            if drawn < 0:
                return kind
        return None

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        is_conditional = "If-Match" in request.headers or "If-None-Match" in request.headers
        if is_conditional and request.method != "GET":
            async with self._writing:
                return await self._forward(request, body)
        return await self._forward(request, body)

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        assert self._session is not None
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in (*_HOP_BY_HOP, "content-length")
        ]
        async with self._session.request(
            request.method,
            URL(f"{self._server}{request.raw_path}", encoded=True),
            headers=headers,
            data=body if body or request.method in ("PUT", "POST") else None,
            allow_redirects=False,
        ) as response:
            content = await response.read()
            return _response(response.status, response.headers, content)


def _operation(request: web.Request) -> str:
    is_list = "list-type" in request.query or "prefix" in request.query
    return "LIST" if request.method == "GET" and is_list else request.method


def _response(status: int, headers, content: bytes) -> web.Response:
    kept = [
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP and (name.lower() != "content-length" or not content)
    ]
    response = web.Response(status=status, body=content)
    response.headers.clear()
    for name, value in kept:
        response.headers.add(name, value)
    return response


def _cut(request: web.Request) -> web.Response:
    """End a connection without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _truncated(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Send the head of an answer and half of its body, or half of its head, and end."""
    assert request.transport is not None
    cut = None
    if request.method == "HEAD" or not response.body:
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
    else:
        content = response.body
        cut = web.StreamResponse(status=response.status)
        for name, value in response.headers.items():
            if name.lower() != "content-length":
                cut.headers.add(name, value)
        cut.content_length = len(content)
        await cut.prepare(request)
        await cut.write(content[: len(content) // 2])
    request.transport.close()
    return response if cut is None else cut


async def _serve() -> None:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    proxy = Proxy(f"http://{host}:{port}")
    application = web.Application(client_max_size=LARGEST)
    application.on_startup.append(proxy.open)
    application.router.add_route("*", "/{path:.*}", proxy.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (address,) = runner.addresses
    sys.stdout.write(json.dumps(f"http://{address[0]}:{address[1]}") + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve())
