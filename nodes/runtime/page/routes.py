"""The page's requests to the server: GET /speca/presets and POST /speca/what_if."""

import json
from typing import Any

from aiohttp import web

from ....speca_core.config import PRESETS, SpecaConfig
from ....speca_core.errors import SpecaError
from ....speca_core.replay import better_steps, psnr_band, replay
from ....speca_core.report import RunReport
from ....speca_core.report_json import pack, read, unpack, write
from . import profile_routes, report_store
from .events import page_server
from .requests import answer_of, body_of, refused

MOST_CALLS = 1_000  # and steps
MOST_ROWS = 50_000  # that one request replays: of all calls, for each of the settings
MOST_SETTINGS = 8  # in one request


def serve() -> None:
    """Add the routes to ComfyUI's server, if there is one."""
    server = page_server()
    if server is not None:
        server.routes.get("/speca/presets")(presets)
        server.routes.post("/speca/what_if")(what_if)
    profile_routes.serve()


async def presets(request: web.Request) -> web.Response:
    """{name: all settings, as `SpecaConfig.to_dict()` has them}, in the order of the buttons."""
    settings = {name: SpecaConfig.build(values).to_dict() for name, values in PRESETS.items()}
    return web.json_response(settings)


async def what_if(request: web.Request) -> web.Response:
    """Predict a recorded run with other settings.

    The request is {"run": its id, "settings": [`SpecaConfig.to_dict()`, ...]}; with "report", a
    packed one, where the server knows the run no more; with "brief", true, for answers without
    reports. The answer is {"psnr": of the run itself, "answers": [{"speedup", "psnr": [low, high]
    in dB or null, "better_steps": plain ones as long that come nearer, or null, "report": the
    prediction, packed}, ...]}; an answer is {"error": reason} if no
    prediction is possible or a setting is out of range. It is {"unknown": the run's id} if the
    report is needed; a malformed request gets code 400.
    """
    body = await body_of(request)
    if isinstance(body, web.Response):
        return body
    try:
        return await answer_of(answered, body)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        ArithmeticError,
        RecursionError,
    ) as error:
        return refused(
            f"found no question about a run ({type(error).__name__}: {error}); "
            "expected the page's request"
        )


def answered(body: bytes) -> dict[str, Any]:
    """The answer to a request.

    Raises:
        ValueError and its like: it is none, or larger than any page's.
    """
    sent = json.loads(body)
    settings = sent["settings"]
    if len(settings) > MOST_SETTINGS:
        raise ValueError(f"{len(settings)} settings; expected at most {MOST_SETTINGS}")
    recorded = report_in(sent["report"]) if "report" in sent else report_store.find_run(sent["run"])
    if recorded is None:
        return {"unknown": str(sent["run"])}
    if recorded.rows * len(settings) > MOST_ROWS:
        raise ValueError(
            f"{recorded.rows} rows, {len(settings)} settings; expected at most {MOST_ROWS} of both"
        )
    brief = bool(sent.get("brief"))
    answers = [foretold(recorded, dict(each), brief) for each in settings]
    return {"psnr": psnr_band(recorded, recorded), "answers": answers}


def report_in(packed: dict[str, Any]) -> RunReport:
    """The report in a request; counted before it is read, which takes its time."""
    table, steps = packed["calls"], len(packed["schedule"]["sigmas"]) - 1
    calls = len(table["values"])
    if max(calls, steps) > MOST_CALLS:
        raise ValueError(f"{calls} calls, {steps} steps; expected at most {MOST_CALLS}")
    each = (dict(zip(table["columns"], call, strict=True)) for call in table["values"])
    rows = sum(len(call["rows"]) for call in each)
    if rows > MOST_ROWS:
        raise ValueError(f"{rows} rows; expected at most {MOST_ROWS}")
    return read(unpack(packed))


def foretold(recorded: RunReport, settings: dict[str, Any], brief: bool) -> dict[str, Any]:
    """The prediction with some settings."""
    try:
        predicted = replay(recorded, settings)
    except SpecaError as error:
        return {"error": str(error)}
    plain, spent = predicted.plain_seconds, predicted.spent
    answer = {
        "speedup": round(plain / spent, 4) if plain and spent else None,
        "psnr": psnr_band(recorded, predicted),
        "better_steps": better_steps(predicted),
    }
    return answer if brief else answer | {"report": pack(write(predicted))}
