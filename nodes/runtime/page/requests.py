"""What the page sends, bounded, and how it is refused."""

from aiohttp import web


async def body_of(request: web.Request, most: int) -> bytes | web.Response:
    """The JSON that was sent, at most `most` bytes however it came; else the refusal."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if request.content_type != "application/json" or encoding != "identity":
        return refused(f"found {request.content_type}, {encoding}; expected plain JSON")
    body = bytearray()
    async for part in request.content.iter_chunked(1 << 16):
        body += part
        if len(body) > most:
            return refused(f"found more than {most} bytes; expected at most as many")
    return bytes(body)


def refused(reason: str, status: int = 400) -> web.Response:
    """{"error": reason}."""
    return web.json_response({"error": reason}, status=status)
