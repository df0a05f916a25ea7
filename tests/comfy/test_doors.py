"""The largest request that each door lets in, the largest event that goes out, and what they cost
the server, whose loop has every page to answer."""

import asyncio
import contextlib
import gc
import json
import time
import tracemalloc
import urllib.error
import urllib.request

import pytest
import torch
from aiohttp import web
from speca_pack.nodes.runtime.page import events, profile_routes, routes
from speca_pack.nodes.runtime.page.report_store import remember
from speca_pack.nodes.runtime.page.requests import MOST_BYTES
from speca_pack.nodes.runtime.page.routes import MOST_CALLS, MOST_ROWS, MOST_SETTINGS
from speca_pack.nodes.runtime.profiles import MOST
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.plans import MOST_PLANS, MOST_TURNS
from speca_pack.speca_core.profile import MOST_LEVELS, Profile
from speca_pack.speca_core.report import CallRecord, RowRecord, RunReport
from speca_pack.speca_core.report_json import pack, write
from speca_pack.speca_core.session import Session

# CPU time of the loop's thread, whatever else the machine does, and bytes of Python's objects.
LOOP, MEMORY = 0.1, 64 << 20
NAME = f"{'a1' * 12}-{'b2' * 8}"


@contextlib.contextmanager
def timed():
    """A list that gets the seconds of this thread. The garbage of other tests is not collected in
    them: in a process as large as this one that alone takes longer than a door may."""
    seconds = []
    gc.disable()
    begun = time.thread_time()
    try:
        yield seconds
        seconds.append(time.thread_time() - begun)
    finally:
        gc.enable()


def ask(address, path, body):
    """(status, body) of the answer."""
    asked = urllib.request.Request(address + path, body, {"Content-Type": "application/json"})
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=300) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


async def answered(path, body):
    """(status, body, seconds of the loop's thread), from a server in this loop."""
    app = web.Application()
    app.router.add_post("/speca/what_if", routes.what_if)
    app.router.add_get("/speca/profiles", profile_routes.listed)
    app.router.add_post("/speca/profiles", profile_routes.imported)
    app.router.add_get("/speca/profiles/{name}", profile_routes.exported)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        with timed() as seconds:
            answer = await asyncio.to_thread(ask, address, path, body)
        return *answer, *seconds
    finally:
        await runner.cleanup()


def light(path, body=None):
    """(status, body) of an answer that costs no more than it may."""
    status, answer, seconds = asyncio.run(answered(path, body))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        asyncio.run(answered(path, body))
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert seconds < LOOP and taken < MEMORY, f"{seconds:.3f} s, {taken >> 20} MB"
    return status, answer


def run_of(calls, rows):
    """The report of a run with so many rows in each call."""
    settings = SpecaConfig().without_profile.to_dict()
    sigmas = [1 - i / calls for i in range(calls + 1)]
    report = RunReport("Flux", settings, calls, sigmas=sigmas, finished=True)
    for i in range(calls):
        found = [
            RowRecord(lane, lane, "computed", "draft", hindcast=0.123456) for lane in range(rows)
        ]
        for row in found if i % 3 == 2 else ():
            row.verdict, row.error, row.tolerance = "accepted", 0.012345, 0.123456
        report.calls.append(CallRecord(i, 1 - i / calls, float(i), 0.12345, found, i + 1))
    return report


def question(report, settings, sent=True):
    """The page's, about so many settings; the server knows the run, or it is sent."""
    asked = [report.settings | {"threshold": 0.01 * (1 + i)} for i in range(settings)]
    known = {"report": pack(write(report))} if sent else {"run": report.ids["run"]}
    return json.dumps({**known, "settings": asked}, separators=(",", ":")).encode()


def planned():
    """A run with the longest plans."""
    report = run_of(MOST_TURNS // 2, 1)
    report.settings = SpecaConfig().to_dict()
    lengths = [MOST_TURNS // 2 - MOST_PLANS + 1 + i for i in range(MOST_PLANS)]
    plans = [[0.1234, *range(length)] for length in lengths]
    report.profile = {"state": "served", "plans": plans}
    return report


LARGEST = {
    "many rows": lambda: question(run_of(200, 100), MOST_ROWS // 20_000),
    "many lanes": lambda: question(run_of(2, 10_000), MOST_ROWS // 20_000),
    "many calls": lambda: question(run_of(MOST_CALLS, 20), 2),
    "many settings": lambda: question(run_of(100, 62), MOST_SETTINGS),
    "many plans": lambda: question(planned(), MOST_SETTINGS),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_questions(name):
    body = LARGEST[name]()
    assert len(body) < MOST_BYTES
    status, answer = light("/speca/what_if", body)
    assert status == 200 and all("report" in each for each in json.loads(answer)["answers"]), answer


def test_the_largest_run_that_the_server_knows():
    report = run_of(100, MOST_ROWS // 100)
    report.ids = {"run": "largest"}
    remember(torch.ones(1), report)
    status, answer = light("/speca/what_if", question(report, 1, sent=False))
    assert status == 200 and "report" in json.loads(answer)["answers"][0]
    status, answer = light("/speca/what_if", question(report, 2, sent=False))
    assert status == 400 and b"expected at most" in answer


def filled(start, item, end):
    """As long as a request may be."""
    return start + item * ((MOST_BYTES - len(start) - len(end)) // len(item)) + end


WORST = {
    "objects": filled(b"[", b'{"":{}},', b"{}]"),
    "settings": filled(b'{"run": "x", "settings": [', b"{},", b"{}]}"),
    "rows": filled(
        b'{"settings": [{}], "report": {"schedule": {"sigmas": [1, 0]}, "row_columns": [], "calls":'
        b'{"columns": ["rows"], "values": [[[',
        b"[],",
        b"[]]]]}}}",
    ),
    "numbers": filled(b'{"name": "x", "profiles": [{"schema": 1, "gram": [', b"0,", b"0]}]}"),
    "depth": filled(b"", b"[", b""),
}


@pytest.mark.parametrize("path", ["/speca/what_if", "/speca/profiles"])
@pytest.mark.parametrize("name", WORST)
def test_what_is_large_and_no_question(name, path):
    assert len(WORST[name]) > MOST_BYTES - 10
    assert light(path, WORST[name])[0] == 400


def profile(guidance):
    """One of the most noise levels."""
    z = torch.randn(MOST_LEVELS + 1, 2 * MOST_LEVELS, dtype=torch.float64)
    gram = (z @ z.T)[tuple(torch.triu_indices(MOST_LEVELS + 1, MOST_LEVELS + 1))]
    sigmas = tuple(1 - i / (MOST_LEVELS + 1) for i in range(MOST_LEVELS))
    return Profile(guidance, True, sigmas, tuple(gram.tolist())).to_dict()


def test_the_largest_profiles():
    """What comes in in several requests goes out in one, which could come in again."""
    told = {"name": NAME, "model": "Flux"}
    for first in (1, 1 + MOST // 8, 1 + MOST // 4):
        profiles = [profile(1.0 * (first + i)) for i in range(MOST // 8)]
        body = json.dumps(told | {"profiles": profiles}, separators=(",", ":")).encode()
        assert light("/speca/profiles", body) == (
            200,
            json.dumps({"name": NAME}).replace(" ", "").encode(),
        )
    status, answer = light("/speca/profiles")
    assert status == 200 and len(json.loads(answer)[NAME]["profiles"]) > MOST // 8
    status, exported = light(f"/speca/profiles/{NAME}")
    assert status == 200 and json.loads(exported)["profiles"][0]["guidance"] == first
    assert light("/speca/profiles", exported)[0] == 200


@pytest.mark.parametrize("images", [100, 200])
def test_the_largest_events(images):
    """A run of more rows than a page draws tells its totals."""
    report = run_of(200, images)
    told = events.payload(report)
    with timed() as seconds:
        size = len(json.dumps(told))
    assert max(seconds) < LOOP and size < (2 << 20 if images == 100 else 20_000)
    assert bool(told["report"]["calls"]["values"]) == (images == 100)
    assert told["report"]["totals"] == write(report)["totals"]


class SlowPage:
    """A server that takes a tenth of a second for each event, by a clock of its own."""

    client_id = "page"

    class prompt_queue:
        @staticmethod
        def get_current_queue_volatile():
            return [], []

    def __init__(self):
        self.now, self.sent = 1000.0, []

    def monotonic(self):
        return self.now

    def send_sync(self, kind, data, page):
        self.now += 0.1
        self.sent.append(data["ended"])


def test_telling_the_page_takes_a_small_share_of_the_run(monkeypatch):
    server = SlowPage()
    monkeypatch.setattr(events, "page_server", lambda: server)
    monkeypatch.setattr(events, "time", server)
    session = Session(SpecaConfig().without_profile, [1.0, 0.5, 0.0])
    live, begun = events.LiveRun(session, "7"), server.now
    for _ in range(1000):
        server.now += 0.2
        session.observers[0](None)
    live.end()
    spent, took = 0.1 * len(server.sent), server.now - begun
    assert len(server.sent) > 2 and server.sent[-1] and spent < 0.03 * took
