"""The run, live in the page: events of type `speca.run`, sent to the page that queued the prompt.

Each event carries the whole run so far, so that lost events, late joins and reloads heal by
themselves; of a run of more rows than a page can draw, its totals:

    {"ids": {prompt, workflow, node, sampler, run}, "ended": bool, "report": the report's JSON,
    packed}

`ended` without the report's `finished` is a run that was interrupted or failed.
"""

import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

from comfy_execution.utils import get_executing_context

from ....speca_core.report import CallRecord, RunReport
from ....speca_core.report_json import pack, write
from ....speca_core.session import Session
from ..harmless import harmless

EVENT = "speca.run"
PAUSE = 1 / 15  # least seconds between two events of a run
SHARE = 0.02  # of the run's time, at most, for making its events
MOST_ROWS = 20_000  # of a run that is sent whole; see `legible` in web/lib/report.js


class LiveRun:
    """Shows one run in the page, call by call. Without a server (tests, scripts) or a page there is
    nobody to send to.

    Args:
        session: of the run; it is observed from now on.
        node: id of the SpeCa node, with its path through subgraphs ("5:2"); empty if
            unknown.
    """

    def __init__(self, session: Session, node: str) -> None:
        self.report = session.report
        self._server = page_server()
        self._next = 0.0  # when the page may be told again
        context = get_executing_context()
        prompt = str(context.prompt_id) if context else ""
        self.report.ids = {
            "prompt": prompt,
            "workflow": workflow_of(self._server, prompt),
            "node": node,
            "sampler": str(context.node_id) if context else "",
            "run": uuid.uuid4().hex[:12],
        }
        session.observers.append(self._called)

    def _called(self, call: CallRecord) -> None:
        if time.monotonic() >= self._next:
            self._send(ended=False)

    def end(self) -> None:
        """The run is over, whether it finished or not."""
        self._send(ended=True)

    def _send(self, ended: bool) -> None:
        if self._server is None or self._server.client_id is None or not self.report.ids["node"]:
            return
        begun = time.monotonic()
        with harmless("telling the page of the run"):
            self._server.send_sync(EVENT, payload(self.report, ended), self._server.client_id)
        self._next = begun + max(PAUSE, (time.monotonic() - begun) / SHARE)


def payload(report: RunReport, ended: bool = True) -> dict[str, Any]:
    """A run as the page gets it, and as it lies in workflows and pictures."""
    written = write(report, whole=report.rows <= MOST_ROWS)
    return {"ids": report.ids, "ended": ended, "report": pack(written)}


def page_server() -> Any:
    """ComfyUI's PromptServer; None outside a server. Its module is not imported for that: importing
    it has effects of its own."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def workflow_of(server: Any, prompt: str) -> str:
    """The id of the workflow that a running prompt was queued from; empty if it was queued without
    one."""
    running = server.prompt_queue.get_current_queue_volatile()[0] if server is not None else []
    for entry in running:  # number, prompt id, prompt, extra data, ...
        if entry[1] == prompt:
            return str(found(entry[3], "extra_pnginfo", "workflow", "id") or "")
    return ""


def found(value: Any, *names: str) -> Any:
    """What lies at a path of names in JSON that somebody else's program has written; None if
    nothing does."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
