"""The page's requests about profiles: look at them, delete, export and import one."""

import asyncio
import json
from typing import Any

from aiohttp import web

from ....speca_core.errors import ConfigError
from ..profiles import STORE, newest_first
from .events import page_server
from .requests import answer_of, body_of, refused

TOLD = "guidance", "runs", "surprise", "trials"  # of each in the list


def serve() -> None:
    """Add the routes to ComfyUI's server, if there is one."""
    server = page_server()
    if server is not None:
        server.routes.get("/speca/profiles")(listed)
        server.routes.get("/speca/profiles/{name}")(exported)
        server.routes.delete("/speca/profiles/{name}")(deleted)
        server.routes.post("/speca/profiles")(imported)


async def listed(request: web.Request) -> web.Response:
    """{name: {"model", "changed", "profiles": [{"guidance", "runs", "surprise", "trials"}]}}, the
    newest first."""

    def listing() -> dict[str, Any]:
        return newest_first(
            (name, file | {"profiles": [{k: p[k] for k in TOLD} for p in file["profiles"]]})
            for name, file in STORE.each()
        )

    return await answer_of(listing)


async def exported(request: web.Request) -> web.Response:
    """What `imported` takes; 404 if there is none."""
    name = request.match_info["name"]

    def told() -> dict[str, Any]:
        known = STORE.exported(name)
        if known is None:
            raise KeyError(name)
        return known

    try:
        return await answer_of(told)
    except KeyError:
        return refused(f"found no profile {name[:60]!r}; expected one of the list", 404)


async def deleted(request: web.Request) -> web.Response:
    """{"deleted": whether it was known}."""
    try:
        known = await asyncio.to_thread(STORE.delete, request.match_info["name"])
    except (ConfigError, OSError) as error:
        return refused(str(error))
    return web.json_response({"deleted": known})


async def imported(request: web.Request) -> web.Response:
    """An exported file takes the place of what is known of its model. {"name"}."""
    body = await body_of(request)
    if isinstance(body, web.Response):
        return body
    try:
        return await answer_of(_take, body)
    except (ConfigError, OSError, ValueError, RecursionError) as error:
        return refused(str(error)[:300])


def _take(body: bytes) -> dict[str, str]:
    return {"name": STORE.take(json.loads(body))}
