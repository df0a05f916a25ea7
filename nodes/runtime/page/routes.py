"""The page's requests to the server: GET /speca/presets and POST /speca/what_if."""

import asyncio
import json
from typing import Any

from aiohttp import web

from ....speca_core.config import PRESETS, SpecaConfig
from ....speca_core.errors import SpecaError
from ....speca_core.replay import psnr_band, replay
from ....speca_core.report import RunReport
from ....speca_core.report_json import pack, read, unpack, write
from .events import page_server

MOST_BYTES = 4_000_000
MOST_CALLS = 2_000  # and steps
MOST_ROWS = 20_000  # of all calls: 200 calls of 100 rows


def serve() -> None:
    """Add the routes to ComfyUI's server, if there is one."""
    server = page_server()
    if server is not None:
        server.routes.get("/speca/presets")(presets)
        server.routes.post("/speca/what_if")(what_if)


async def presets(request: web.Request) -> web.Response:
    """{name: all settings, as `SpecaConfig.to_dict()` has them}, in the order of the buttons."""
    settings = {name: SpecaConfig.build(values).to_dict() for name, values in PRESETS.items()}
    return web.json_response(settings)


async def what_if(request: web.Request) -> web.Response:
    """Predict a recorded run with other settings.

    The request is {"report": a packed report, "settings": `SpecaConfig.to_dict()`}. The answer is
    {"report": the prediction, packed, "psnr": [low, high] in dB, or null}. It is {"error": reason}
    if no prediction is possible or a setting is out of range; a malformed request gets code 400.
    """
    encoding = request.headers.get("Content-Encoding", "identity")
    if request.content_type != "application/json" or encoding != "identity":
        return _refused(f"found {request.content_type}, {encoding}; expected plain JSON")
    body = await _body(request)
    if body is None:
        return _refused(f"found more than {MOST_BYTES} bytes; expected at most as many")
    try:
        # Not in the server's own thread, which has every page to answer.
        recorded, settings = await asyncio.to_thread(understood, body)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        return _refused(
            f"found no report and settings ({type(error).__name__}: {error}); "
            "expected the page's request"
        )
    try:
        answer = await asyncio.to_thread(answer_of, recorded, settings)
    except SpecaError as error:
        return web.json_response({"error": str(error)})
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError) as error:
        return _refused(
            f"found an impossible report or impossible settings ({type(error).__name__}: {error}); "
            "expected the page's request"
        )
    return web.json_response(answer)


async def _body(request: web.Request) -> bytes | None:
    """What was sent, however it came; None if it is too much."""
    body = bytearray()
    async for part in request.content.iter_chunked(1 << 16):
        body += part
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def understood(body: bytes) -> tuple[RunReport, dict[str, Any]]:
    """The report and the settings of a request.

    Raises:
        ValueError and its like: they are none, or larger than those of any run.
    """
    sent = json.loads(body)
    packed, settings = sent["report"], dict(sent["settings"])
    # Counted before it is read, which takes its time.
    calls, steps = len(packed["calls"]["values"]), len(packed["schedule"]["sigmas"]) - 1
    if max(calls, steps) > MOST_CALLS:
        raise ValueError(f"{calls} calls, {steps} steps; expected at most {MOST_CALLS}")
    report = unpack(packed)
    rows = sum(len(call["rows"]) for call in report["calls"])
    if rows > MOST_ROWS:
        raise ValueError(f"{rows} rows; expected at most {MOST_ROWS}")
    return read(report), settings


def answer_of(recorded: RunReport, settings: dict[str, Any]) -> dict[str, Any]:
    """The prediction."""
    predicted = replay(recorded, settings)
    return {"report": pack(write(predicted)), "psnr": psnr_band(recorded, predicted)}


def _refused(reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=400)
