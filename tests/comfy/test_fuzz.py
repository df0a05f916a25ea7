"""Whatever somebody else has written: workflows, profiles, requests. Nothing is raised, nothing
takes long."""

import asyncio
import copy
import json
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from speca_pack.nodes.runtime.fingerprint import Key
from speca_pack.nodes.runtime.page.routes import what_if
from speca_pack.nodes.runtime.page.workflow_metadata import stamp
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.report import CallRecord, RowRecord, RunReport
from speca_pack.speca_core.report_json import pack, write

LONGEST = 2.0  # seconds of a request, on a machine that does other things as well
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
fuzzed = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def places(value, path=()):
    """The paths to everything in a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, each in inside:
        yield from places(each, (*path, key))


def changed(value, path, other):
    """A JSON value with something else at one place."""
    made = copy.deepcopy(value)
    if not path:
        return other
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = other
    return made


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
    """The code of the answer to a request, and how long it took."""

    async def chunks(size):
        yield body

    sent = SimpleNamespace(
        headers={}, content_type="application/json", content=SimpleNamespace(iter_chunked=chunks)
    )
    begun = time.perf_counter()
    answer = asyncio.run(what_if(sent))
    return answer.status, time.perf_counter() - begun


def test_the_request_itself_is_answered():
    assert answered(json.dumps(REQUEST).encode())[0] == 200


@fuzzed
@given(path=st.sampled_from([*places(REQUEST)]), other=json_values)
def test_any_request_is_answered_or_refused(path, other):
    status, seconds = answered(json.dumps(changed(REQUEST, path, other)).encode())
    assert status in (200, 400) and seconds < LONGEST


@fuzzed
@given(body=st.binary(max_size=64) | st.just(b"[" * 100_000) | st.just(b'{"report":' * 9_000))
def test_any_bytes_are_refused(body):
    status, seconds = answered(body)
    assert status == 400 and seconds < LONGEST


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
