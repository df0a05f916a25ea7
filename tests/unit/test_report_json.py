"""The report's JSON: there and back, as columns and as objects."""

import json

import pytest
from test_session import SIGMAS, config, play

from speca_core import Session
from speca_core.report_json import pack, read, unpack, write


def recorded(lanes=("a", "b"), **settings):
    session = Session(config(threshold=0.1, **settings), SIGMAS, model="Flux")
    play(
        session,
        lambda s, row: s,
        lanes=lanes,
        errors=lambda call, row: 0.03 * (call.states[row].streak + 1),
    )
    session.report.finished, session.report.seconds, session.report.repaired = True, 1.5, 3
    return session.report


def test_packing_loses_nothing_and_halves_the_size():
    report = write(recorded(lanes="abcdefgh"))
    packed = json.loads(json.dumps(pack(report)))
    assert unpack(packed) == json.loads(json.dumps(report))
    assert len(json.dumps(packed)) < 0.5 * len(json.dumps(report))


def test_a_run_without_calls_packs_too():
    report = write(Session(config(), SIGMAS).report) | {"settings": {}}
    assert unpack(pack(report)) == report


def test_a_report_comes_back_from_its_json():
    report = recorded()
    back = read(write(report))
    assert write(back) == write(report) and back.repaired == 3


@pytest.mark.parametrize(
    "damage", [{"schema": 3}, {"calls": [{"index": 0}]}, {"seconds": None}, {"calls": 3}]
)
def test_what_is_no_report_is_refused(damage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        read(write(recorded()) | damage)


def test_plain_seconds_replace_the_calls_that_were_drafted():
    report = recorded(lanes=("a",))
    for call in report.calls:
        call.seconds = 0.02 if any(row.verdict == "accepted" for row in call.rows) else 0.1
    # Compilation: the plain model would have paid it too, and no other call is as slow.
    report.calls[0].seconds = 5.0
    report.seconds = sum(call.seconds for call in report.calls) + 0.3
    drafts = sum(call.seconds == 0.02 for call in report.calls)
    assert drafts > 0
    assert report.plain_seconds == pytest.approx(report.seconds + drafts * (0.1 - 0.02))
