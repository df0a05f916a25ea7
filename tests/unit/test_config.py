import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speca_core import ConfigError, SpecaConfig
from speca_core.budgets import BUDGETS
from speca_core.config import PRESETS
from speca_core.forecasters import FORECASTERS, Newton, Taylor
from speca_core.settings import Number, Switch, Text, settings_of
from speca_core.verifiers import VERIFIERS, LastBlock

TABLES = {"forecaster": FORECASTERS, "verifier": VERIFIERS, "budget": BUDGETS}
entries = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, table in TABLES.items() for name in table]
)


def choices(**changed):
    return SpecaConfig().to_dict() | changed


def test_defaults_round_trip():
    assert SpecaConfig.build(choices()) == SpecaConfig()


@entries
def test_every_table_entry_builds_from_its_dict(kind, name):
    entry = TABLES[kind][name]()
    assert getattr(SpecaConfig.build(choices(**{kind: entry.to_dict()})), kind) == entry
    assert entry.help


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", ["nonsense", "", None, 3, "Newton"])
def test_unknown_names_say_what_there_is(kind, name):
    with pytest.raises(
        ConfigError, match=f"{kind} is .*; expected one of {next(iter(TABLES[kind]))}"
    ):
        SpecaConfig.build(choices(**{kind: {"name": name}}))


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="has no setting ordr"):
        SpecaConfig.build(choices(forecaster={"name": "newton", "ordr": 2}))


@entries
def test_every_setting_refuses_what_is_out_of_range(kind, name):
    expected = {Number: "a (whole )?number from", Switch: "true or false", Text: "(text|JSON)"}
    for field, (default, rule) in settings_of(TABLES[kind][name]).items():
        bad = [None, [1], {"name": "newton"}]
        if isinstance(rule, Number):
            bad += [rule.low - 1, rule.high + 1, math.nan, math.inf, "1", True]
            bad += [default + 0.5] if isinstance(default, int) else []
            assert rule.low <= default <= rule.high and rule.step > 0
        if isinstance(rule, Switch):
            bad += [2, -1, 0.0, "true"]
        for value in bad:
            with pytest.raises(
                ConfigError, match=rf"{field} is .*; expected {expected[type(rule)]}"
            ):
                TABLES[kind][name](**{field: value})
        assert rule.help


def test_switches_that_0_1_0_saved_as_numbers_are_read():
    for saved, meant in ((0, False), (1, True)):
        config = SpecaConfig.build({"budget": {"name": "accumulated", "protect_last": saved}})
        assert config.budget.protect_last is meant


def test_what_is_left_out_is_the_default():
    assert SpecaConfig.build({}) == SpecaConfig()
    newton = SpecaConfig.build({"forecaster": {"name": "newton", "order": 1}}).forecaster
    assert (newton.order, newton.damping) == (1, Newton().damping)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_it_changes(name):
    built = SpecaConfig.build(PRESETS[name]).to_dict()
    default = SpecaConfig().to_dict()
    assert {key for key in built if built[key] != default[key]} == set(PRESETS[name])


@given(threshold=st.floats(0, 1), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_any_threshold_and_window_in_range_is_taken_or_explained(threshold, ends):
    start, end = ends
    if start < end:
        config = SpecaConfig.build(choices(threshold=threshold, start=start, end=end))
        assert (config.threshold, config.start, config.end) == (threshold, start, end)
    else:
        with pytest.raises(ConfigError, match="expected start < end"):
            SpecaConfig.build(choices(threshold=threshold, start=start, end=end))


@pytest.mark.parametrize("field", ["threshold", "start", "end"])
@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, "0.5", None])
def test_bad_numbers_name_the_widget(field, bad):
    with pytest.raises(ConfigError, match=f"{field} is"):
        SpecaConfig.build(choices(**{field: bad}))


def test_a_whole_prediction_cannot_be_checked_by_a_block():
    SpecaConfig(level="prediction")
    with pytest.raises(
        ConfigError, match=r"verifier last_block runs a block .* Choose verifier embedded or none"
    ):
        SpecaConfig(level="prediction", verifier=LastBlock())
    with pytest.raises(
        ConfigError, match="level is 'blocks'; expected one of auto, features, prediction"
    ):
        SpecaConfig(level="blocks")


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_that_judges_drafts_has_a_check_of_them(name):
    config = SpecaConfig.build({"budget": name})
    judges = name in ("accumulated", "threshold", "hindcast")
    assert config.judged.verifier.name == ("embedded" if judges else "innovation")
    assert replace(config, verifier=LastBlock()).judged.verifier == LastBlock()


def test_without_a_profile_other_choices_stand():
    config = SpecaConfig(0.3).without_profile
    chosen = config.forecaster.name, config.verifier.name, config.budget.name
    assert chosen == ("newton", "embedded", "accumulated")
    assert config.threshold == pytest.approx(0.6)  # of errors in a row, not of the result
    assert SpecaConfig(0.9).without_profile.threshold == 1.0
    # Nothing ends the streaks of these: a line holds longer than a parabola.
    for unjudged in ("target", "interval", "mask"):
        other = SpecaConfig.build({"threshold": 0.3, "budget": unjudged}).without_profile
        assert other.forecaster == Taylor(order=1) and other.threshold == 0.3
    own = SpecaConfig.build({"threshold": 0.3, "forecaster": "newton", "budget": "interval"})
    assert own.without_profile == replace(own, verifier=config.verifier)
