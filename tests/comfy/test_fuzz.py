"""Whatever somebody else has written: workflows, profiles, requests. Nothing is raised, nothing
takes long."""

import asyncio
import json
import tracemalloc
from types import SimpleNamespace

import pytest
from conftest import PACK, load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from speca_pack.nodes.runtime.fingerprint import Key
from speca_pack.nodes.runtime.page.routes import what_if
from speca_pack.nodes.runtime.page.workflow_metadata import stamp
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.report import CallRecord, RowRecord, RunReport
from speca_pack.speca_core.report_json import pack, write
from test_doors import LOOP, MEMORY, timed

ODD = load(PACK / "tests/odd.py")
changed, json_values, places = ODD.changed, ODD.json_values, ODD.places
fuzzed = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def report():
    settings = SpecaConfig().without_profile.to_dict()
    made = RunReport("Flux", settings, 8, sigmas=[1 - i / 8 for i in range(9)], finished=True)
    for i in range(8):
        drafted = i in (3, 5)
        row = RowRecord(0, 0, "accepted" if drafted else "computed", "draft", hindcast=0.1)
        row.error, row.tolerance = (0.05, 0.1) if drafted else (None, None)
        made.calls.append(CallRecord(i, 1 - i / 8, float(i), 0.1, [row], i + 1))
    made.ids = {"node": "5:2", "sampler": "8", "run": "new", "prompt": "p", "workflow": "w"}
    return made


WORKFLOW = {
    "nodes": [{"id": 5, "type": "sub"}],
    "definitions": {
        "subgraphs": [
            {"id": "sub", "nodes": [{"id": 2, "type": "SpeCaAccelerate", "properties": {}}]}
        ]
    },
}


@fuzzed
@given(path=st.sampled_from([*places(WORKFLOW)]), other=json_values)
def test_any_workflow_may_be_stamped(path, other):
    saved = changed(WORKFLOW, path, other)
    assert stamp(saved, report()) in (True, False)


REQUEST = {"report": pack(write(report())), "settings": [report().settings]}


def answered(body):
    """The code of the answer to a request, which is as light for the loop as any must be."""

    async def chunks(size):
        yield body

    def ask():
        sent = SimpleNamespace(
            headers={},
            content_type="application/json",
            content=SimpleNamespace(iter_chunked=chunks),
        )
        return asyncio.run(what_if(sent)).status

    with timed() as seconds:
        status = ask()
    assert max(seconds) < LOOP
    tracemalloc.start()
    try:
        assert ask() == status
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    return status


def test_the_request_itself_is_answered():
    assert answered(json.dumps(REQUEST).encode()) == 200


@fuzzed
@given(path=st.sampled_from([*places(REQUEST)]), other=json_values)
def test_any_request_is_answered_or_refused(path, other):
    assert answered(json.dumps(changed(REQUEST, path, other)).encode()) in (200, 400)


@fuzzed
@given(body=st.binary(max_size=64) | st.just(b"[" * 100_000) | st.just(b'{"report":' * 9_000))
def test_any_bytes_are_refused(body):
    assert answered(body) == 400


PROFILE = {
    "model": "Flux",
    "profiles": [
        {
            "schema": 1,
            "guidance": 3.0,
            "flow": True,
            "sigmas": [1.0, 0.5],
            "gram": [1.0, 0.0, 0.0, 1.0, 0.0, 1.0],
            "runs": 1,
            "surprise": 1.0,
            "judged": 0,
        }
    ],
}
KEY = Key("model", "Flux", "variant", 3.0, True)


@pytest.fixture
def store(tmp_path):
    return ProfileStore(tmp_path)


def written(store, text):
    (store.folder / f"{KEY.model}-{KEY.variant}.json").write_text(text, "utf-8")


def test_the_profile_itself_is_read(store):
    written(store, json.dumps(PROFILE))
    assert len(store.read(KEY)) == 1


@fuzzed
@given(path=st.sampled_from([*places(PROFILE)]), other=json_values)
def test_any_file_of_profiles_is_read_or_left_alone(store, path, other):
    written(store, json.dumps(changed(PROFILE, path, other)))
    assert len(store.read(KEY)) <= 1
