"""Whatever is put in: a clear error before sampling, or what is promised."""

import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speca_core import ConfigError, Session, SpecaConfig
from speca_core.anchors import HEAD_INPUT
from speca_core.axis import Schedule, falls
from speca_core.budgets import BUDGETS
from speca_core.config import LEVELS
from speca_core.forecasters import FORECASTERS
from speca_core.report_json import write
from speca_core.settings import Switch, Text, settings_of
from speca_core.tensors import relative_error, weighted_sum
from speca_core.verifiers import VERIFIERS

TABLES = {"forecaster": FORECASTERS, "verifier": VERIFIERS, "budget": BUDGETS}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)
numbers = st.floats(width=32)  # NaN and infinities among them


@st.composite
def entries(draw, table):
    """A valid choice of a table, knobs anywhere in their ranges."""
    name = draw(st.sampled_from(list(table)))
    values = {
        field: draw(
            st.just(default)
            if isinstance(rule, Text)
            else st.booleans()
            if isinstance(rule, Switch)
            else st.integers(int(rule.low), int(rule.high))
            if isinstance(default, int)
            else st.floats(rule.low, rule.high)
        )
        for field, (default, rule) in settings_of(table[name]).items()
    }
    return {"name": name, **values}


@st.composite
def configs(draw):
    """A valid configuration."""
    start, end = sorted(draw(st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True)))
    verifier = draw(entries(VERIFIERS))
    levels = [
        level for level in LEVELS if level == "features" or VERIFIERS[verifier["name"]].block == ""
    ]
    return {
        "threshold": draw(st.floats(0, 1)),
        "forecaster": draw(entries(FORECASTERS)),
        "verifier": verifier,
        "budget": draw(entries(BUDGETS)),
        "start": start,
        "end": end,
        "hindsight": draw(st.booleans()),
        "guided": draw(st.booleans()),
        "level": draw(st.sampled_from(levels)),
    }


@given(choices=configs())
def test_every_valid_configuration_survives_json(choices):
    config = SpecaConfig.build(choices)
    again = SpecaConfig.build(json.loads(json.dumps(config.to_dict(), allow_nan=False)))
    assert again == config and config.to_dict() == choices


def outcome(choices):
    """The configuration as it was understood, or the message that it was refused with; anything
    else fails the test."""
    try:
        return SpecaConfig.build(choices).to_dict(), None
    except ConfigError as error:
        return None, str(error)


@given(choices=configs(), widget=st.sampled_from(sorted(SpecaConfig().to_dict())), value=anything)
def test_any_value_of_any_widget_is_taken_as_it_is_or_explained(choices, widget, value):
    taken, message = outcome(choices | {widget: value})
    if message is None:
        assert taken[widget] == value
    else:
        assert "expected" in message or "Choose" in message or "has no setting" in message


@given(kind=st.sampled_from(sorted(TABLES)), data=st.data())
def test_any_value_of_any_knob_is_taken_as_it_is_or_explained(kind, data):
    name = data.draw(st.sampled_from(list(TABLES[kind])))
    knob = data.draw(st.sampled_from([*settings_of(TABLES[kind][name]), "nonsense"]))
    value = data.draw(anything)
    taken, message = outcome(
        SpecaConfig().to_dict() | {"level": "features", kind: {"name": name, knob: value}}
    )
    if message is None:
        assert taken[kind][knob] == value
    else:
        assert knob in message and ("expected" in message or "has no setting" in message)


@given(
    sigmas=st.lists(numbers, max_size=8),
    at=st.floats(allow_nan=False, width=32),
    flow=st.booleans(),
)
def test_any_schedule_is_an_axis_or_explained(sigmas, at, flow):
    if len(sigmas) < 2 or not all(map(math.isfinite, sigmas)):
        with pytest.raises(ConfigError, match="expected at least two finite sigmas"):
            Schedule(sigmas, flow)
        return
    schedule = Schedule(sigmas, flow)
    for sigma in (*sigmas, at):
        point = schedule.point(sigma)
        assert 0 <= point.position <= schedule.steps and 0 <= point.progress <= 1
        assert math.isfinite(point.coordinate)
    if falls(sigmas):
        places = [schedule.point(sigma) for sigma in sigmas]
        assert [place.position for place in places] == list(range(len(sigmas)))
        assert all(a.coordinate < b.coordinate for a, b in pairwise(places))


pairs = st.integers(1, 3).flatmap(
    lambda rows: st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            *[st.lists(numbers, min_size=rows * n, max_size=rows * n)] * 2, st.just(rows)
        )
    )
)


@given(pair=pairs)
def test_an_error_is_never_nan_and_never_negative(pair):
    forecast, reference, rows = pair
    y = torch.tensor(reference).reshape(rows, -1)
    p = torch.tensor(forecast).reshape(rows, -1)
    errors = relative_error(p, y)
    assert errors.shape == (rows,) and (errors >= 0).all()
    for row, error in enumerate(errors.tolist()):
        if not (p[row].isfinite().all() and y[row].isfinite().all()):
            assert error == math.inf


@given(
    terms=st.lists(
        st.tuples(st.floats(-8, 8), st.lists(st.floats(-8, 8, width=16), min_size=4, max_size=4)),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weighted_sums_are_those_of_float64_to_the_last_rounding(dtype, terms):
    weights = [weight for weight, _ in terms]
    anchors = [torch.tensor(values).to(dtype) for _, values in terms]
    kept = [anchor.clone() for anchor in anchors]
    total = weighted_sum(weights, anchors)
    exact = sum(
        (w * a.double() for w, a in zip(weights, anchors, strict=True)),
        torch.zeros(4, dtype=torch.float64),
    )
    scale = sum(abs(w) * a.double().abs() for w, a in zip(weights, anchors, strict=True))
    assert total.dtype == dtype and total.shape == (4,)
    allowed = (
        torch.finfo(dtype).eps * exact.abs()
        + 8 * torch.finfo(torch.float32).eps * scale
        + torch.finfo(dtype).smallest_normal
    )
    assert ((total.double() - exact).abs() <= allowed).all()
    assert all(torch.equal(a, b) for a, b in zip(anchors, kept, strict=True)), (
        "anchors are read only"
    )


steps = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=14) | st.integers(1, 14).map(
    lambda n: [1 - i / n for i in range(n + 1)]
)


@settings(deadline=None)
@given(choices=configs(), sigmas=steps, data=st.data())
def test_any_run_keeps_its_limits_and_its_books(choices, sigmas, data):
    """Any settings, schedule, features and verifier errors, however bad."""
    config = SpecaConfig.build(choices).without_profile
    session = Session(config, sigmas)
    lanes, images, branches = ["a+", "b+", "a-", "b-"], [0, 1, 0, 1], [0, 0, 1, 1]
    streaks = [0] * 4
    for sigma in sigmas[:-1]:
        prediction = session.predict_at(sigma, data.draw(st.sampled_from([None, 1.0, 7.0])))
        call = prediction.open_call(lanes, images, branches)
        assert sorted(call.draft_rows + call.full_rows) == [0, 1, 2, 3]
        assert not {images[r] for r in call.draft_rows} & {images[r] for r in call.full_rows}, (
            "an image's rows decide together"
        )
        forecasts = call.forecast(HEAD_INPUT, call.draft_rows)
        assert all(f.shape == (2,) and f.dtype == torch.float32 for f in forecasts)
        errors = data.draw(
            st.none()
            | st.lists(st.floats(0), min_size=len(call.draft_rows), max_size=len(call.draft_rows))
        )
        accepted, rejected = call.judge(call.draft_rows, errors)
        if errors is not None:
            assert all(math.isfinite(errors[call.draft_rows.index(row)]) for row in accepted)
        computed = sorted(call.full_rows + rejected)
        scorable = call.scorable(computed)
        call.score(
            scorable,
            data.draw(st.lists(st.floats(0), min_size=len(scorable), max_size=len(scorable))),
        )
        call.observe(
            HEAD_INPUT, computed, [torch.tensor([data.draw(numbers), sigma]) for _ in computed]
        )
        record = call.close(0.0)
        for row in range(4):
            streaks[row] = streaks[row] + 1 if record.rows[row].verdict == "accepted" else 0
            assert streaks[row] <= config.budget.max_streak
    report = session.report
    assert (
        report.rows
        == 4 * (len(sigmas) - 1)
        == sum(report.count(v) for v in ("computed", "accepted", "rejected"))
    )
    if config.threshold == 0:
        assert report.count("accepted") == 0
    drafted_at = [
        call.index for call in report.calls if any(row.verdict == "accepted" for row in call.rows)
    ]
    assert all(index >= config.budget.warmup for index in drafted_at)
    json.dumps(write(report), allow_nan=False)
