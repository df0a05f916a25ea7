"""The run, live in the page: what the server sends, to whom, and what it answers."""

import asyncio
import gzip
import json
import urllib.error
import urllib.request
import uuid

import aiohttp
import pytest
from models import features, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page import events
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.sampling import Sampling
from speca_pack.speca_core.report import RunReport
from speca_pack.speca_core.report_json import pack, unpack, write
from test_server import ask, graph

spaces = iter(range(1, 1000))


def follow(address, prompt, workflow=None, interrupt=False):
    """Queue a graph as a page does. Returns the `speca.run` events that it got, those that another
    page got, and how it ended."""

    async def listen():
        own, other = uuid.uuid4().hex, uuid.uuid4().hex
        found = {own: [], other: []}
        async with aiohttp.ClientSession() as session:
            sockets = {
                who: await session.ws_connect(f"{address}/ws?clientId={who}") for who in found
            }
            extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
            body = {"prompt": prompt, "client_id": own, "extra_data": extra}
            async with session.post(f"{address}/prompt", json=body) as response:
                assert response.status == 200, await response.text()
            end = None
            while end is None:
                message = await sockets[own].receive(timeout=120)
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                if event["type"] == events.EVENT:
                    found[own].append(event["data"])
                    if interrupt and len(found[own]) == 2:
                        await (await session.post(f"{address}/interrupt", json={})).read()
                elif event["type"] in (
                    "execution_success",
                    "execution_error",
                    "execution_interrupted",
                ):
                    end = event["type"]
            while not sockets[other].closed:
                try:
                    message = await sockets[other].receive(timeout=0.3)
                except asyncio.TimeoutError:
                    break
                if (
                    message.type == aiohttp.WSMsgType.TEXT
                    and json.loads(message.data)["type"] == events.EVENT
                ):
                    found[other].append(message.data)
        return found[own], found[other], end

    return asyncio.run(listen())


def fresh(steps=12, **changed):
    made = graph(**changed)
    made["4"]["inputs"]["text"] += " " * next(spaces)
    made["8"]["inputs"]["steps"] = steps
    return made


def test_events_carry_the_whole_run_to_the_page_that_queued_it(comfy):
    prompt = fresh()
    own, other, end = follow(comfy, prompt, {"id": "the-workflow", "nodes": []})
    assert end == "execution_success" and len(own) >= 2 and other == []
    counts = [len(event["report"]["calls"]["values"]) for event in own]
    assert counts == sorted(counts) and counts[-1] == 12
    assert [event["ended"] for event in own] == [False] * (len(own) - 1) + [True]
    ids = {json.dumps({k: v for k, v in event["ids"].items() if k != "prompt"}) for event in own}
    (named,) = map(json.loads, ids)
    assert (
        named == {"workflow": "the-workflow", "node": "7", "sampler": "8", "run": named["run"]}
        and own[0]["ids"]["prompt"]
    )
    report = unpack(own[-1]["report"])
    history = ask(comfy, f"/history/{own[0]['ids']['prompt']}")[own[0]["ids"]["prompt"]]
    assert report == json.loads(history["outputs"]["9"]["speca_report"][0])


def test_two_nodes_two_samplers_each_run_has_its_ids(comfy):
    prompt = fresh()
    prompt |= {
        "27": {**prompt["7"]},
        "28": json.loads(json.dumps(prompt["8"])),
        "29": json.loads(json.dumps(prompt["9"])),
    }
    prompt["28"]["inputs"] |= {"model": ["27", 0], "seed": 9}
    prompt["29"]["inputs"]["latent"] = ["28", 0]
    own, _, end = follow(comfy, prompt)
    assert end == "execution_success"
    assert {(event["ids"]["node"], event["ids"]["sampler"]) for event in own} == {
        ("7", "8"),
        ("27", "28"),
    }
    assert len({event["ids"]["run"] for event in own}) == 2


def test_an_interrupted_run_ends_without_being_finished(comfy):
    own, _, end = follow(comfy, fresh(steps=200), interrupt=True)
    assert end == "execution_interrupted"
    assert (
        own[-1]["ended"]
        and not own[-1]["report"]["finished"]
        and 0 < len(own[-1]["report"]["calls"]["values"]) < 200
    )


def test_nobody_is_told_without_a_server():
    assert events.page_server() is None
    accelerated = accelerate(trained_flux(), features(), "7")
    assert sample_flux(accelerated, batch=1, steps=6).isfinite().all()


class BrokenServer:
    """A page that cannot be reached: what is tested is that sampling does not depend on it."""

    client_id = "page"

    class prompt_queue:
        @staticmethod
        def get_current_queue_volatile():
            return [], []

    def send_sync(self, *arguments):
        raise RuntimeError("the loop is closed")


def test_an_event_that_cannot_be_sent_is_logged_and_sampling_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(events, "page_server", BrokenServer)
    samples = sample_flux(accelerate(trained_flux(), features(), "7"), batch=1, steps=6)
    assert (
        samples.isfinite().all()
        and "telling the page of the run failed" in caplog.text
        and "the loop is closed" in caplog.text
    )


def refused(address, body, content="application/json"):
    request = urllib.request.Request(f"{address}/speca/what_if", body, {"Content-Type": content})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)
    return error.value.code, json.load(error.value)["error"]


def test_the_server_answers_what_if(comfy):
    own, _, _ = follow(comfy, fresh())
    report, run = own[-1]["report"], own[-1]["ids"]["run"]
    plain = report["settings"] | {"threshold": 0.0}
    settings = [plain, report["settings"], plain | {"threshold": 9}]
    asked = ask(comfy, "/speca/what_if", {"run": run, "settings": settings})
    none, same, no_telling = asked["answers"]
    answer = unpack(none["report"])
    assert none["psnr"] is None and none["speedup"] == 1, "nothing is drafted"
    assert (
        answer["totals"]["accepted"] == 0
        and answer["totals"]["rows"] == 12
        and answer["settings"] == plain
    )
    assert "threshold" in no_telling["error"] and "expected" in no_telling["error"]
    brief = ask(comfy, "/speca/what_if", {"run": run, "settings": settings, "brief": True})
    assert brief["answers"][1] == {key: same[key] for key in same if key != "report"}
    assert set(same) == {"speedup", "psnr", "better_steps", "report"}
    # A server that was started again has the report from the page.
    lost = {"run": "lost", "settings": settings}
    assert ask(comfy, "/speca/what_if", lost) == {"unknown": "lost"}
    told = ask(comfy, "/speca/what_if", lost | {"report": report})["answers"][0]
    assert told["report"]["totals"] == none["report"]["totals"]
    code, reason = refused(comfy, json.dumps(lost | {"report": report | {"calls": 3}}).encode())
    assert code == 400 and "expected" in reason
    code, reason = refused(comfy, json.dumps({"run": run, "settings": [plain] * 17}).encode())
    assert code == 400 and "at most 8" in reason


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b"{}", "application/json"),
        (b"[1]", "application/json"),
        (b"no json", "application/json"),
        (
            b'{"report": {"calls": {"columns": [], "values": [[1]]}, "row_columns": []}, '
            b'"settings": [{}]}',
            "application/json",
        ),
        (b"{}", "text/plain"),
    ],
)
def test_what_is_no_question_is_refused_with_a_reason(comfy, body, content):
    code, reason = refused(comfy, body, content)
    assert code == 400 and "found" in reason and "expected" in reason


def test_floods_are_refused_before_they_are_read(comfy):
    report, settings = pack(own_report()), own_report()["settings"]
    calls = {**report["calls"], "values": [report["calls"]["values"][0]] * 2001}
    schedule = {**report["schedule"], "sigmas": [1.0] * 2002}
    for flood in ({"calls": calls}, {"schedule": schedule}):
        code, reason = refused(
            comfy, json.dumps({"report": report | flood, "settings": [settings]}).encode()
        )
        assert code == 400 and "at most 1000" in reason


def test_a_body_that_does_not_tell_its_size_is_bounded(comfy):
    """In parts, as no content length is sent then; and packed, where the length tells nothing."""
    request = urllib.request.Request(
        f"{comfy}/speca/what_if",
        (b" " * 100_000 for _ in range(60)),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as error:
        opener.open(request, timeout=60)
    assert error.value.code == 400 and "at most" in json.load(error.value)["error"]
    request = urllib.request.Request(
        f"{comfy}/speca/what_if",
        gzip.compress(b" " * 1_000_000),
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        opener.open(request, timeout=60)
    assert error.value.code == 400 and "gzip" in json.load(error.value)["error"]


def test_a_flood_of_rows_is_refused(comfy):
    report = own_report()
    row = report["calls"][-1]["rows"][0]
    report["calls"][-1]["rows"] = [row] * 10_001
    code, reason = refused(
        comfy, json.dumps({"report": pack(report), "settings": [report["settings"]] * 5}).encode()
    )
    assert code == 400 and "at most 50000" in reason


def own_report():
    from speca_pack.nodes.runtime.page.report_store import find

    report = find(sample_flux(accelerate(trained_flux(), features()), batch=1, steps=6))
    assert isinstance(report, RunReport)
    return json.loads(json.dumps(write(report)))


def test_the_page_hears_of_the_end_if_the_books_cannot_be_closed(monkeypatch, caplog):
    def fail(*_):
        raise ValueError("injected")

    ended = []
    monkeypatch.setattr(Sampling, "_settle", fail)
    monkeypatch.setattr(events.LiveRun, "end", lambda self: ended.append(self.report))
    latent = sample_flux(accelerate(trained_flux(), features()), batch=1, steps=4)
    assert ended == [find(latent)] and "closing the books of the run failed" in caplog.text
