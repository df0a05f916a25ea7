"""What the page sends, bounded, and how it is answered or refused."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

MOST_BYTES = 1_500_000  # of a request; what JSON is made of takes up to 32 times its text


async def body_of(request: web.Request) -> bytes | web.Response:
    """The JSON that was sent, however it came; the refusal if that is none, or too much."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if request.content_type != "application/json" or encoding != "identity":
        return refused(f"found {request.content_type}, {encoding}; expected plain JSON")
    body = bytearray()
    async for part in request.content.iter_chunked(1 << 16):
        body += part
        if len(body) > MOST_BYTES:
            return refused(f"found more than {MOST_BYTES} bytes; expected at most as many")
    return bytes(body)


async def answer_of(work: Callable[..., Any], *args: Any) -> web.Response:
    """What some work makes, as JSON. Neither is done in the server's own thread, which has every
    page to answer."""

    def told() -> bytes:
        return json.dumps(work(*args), separators=(",", ":")).encode()

    made = await asyncio.to_thread(told)
    return web.Response(body=made, content_type="application/json", charset="utf-8")


def refused(reason: str, status: int = 400) -> web.Response:
    """{"error": reason}."""
    return web.json_response({"error": reason}, status=status)
