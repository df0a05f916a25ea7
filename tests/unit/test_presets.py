import json
from pathlib import Path

import pytest

from speca_core import SpecaConfig
from speca_core.config import PRESETS


def test_each_preset_is_faster_than_the_one_before():
    thresholds = [SpecaConfig.build(values).threshold for values in PRESETS.values()]
    assert thresholds == sorted(set(thresholds))


def test_balanced_is_the_untouched_node():
    assert list(PRESETS) == ["faithful", "balanced", "fast", "draft"]
    assert SpecaConfig.build(PRESETS["balanced"]) == SpecaConfig()


def test_the_page_has_a_word_for_each():
    words = Path(__file__).resolve().parents[2] / "web/words.json"
    for language in json.loads(words.read_text(encoding="utf-8")).values():
        assert list(language["qualities"]) == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_only_what_it_changes(name):
    built, default = SpecaConfig.build(PRESETS[name]).to_dict(), SpecaConfig().to_dict()
    changed = {setting for setting in built if built[setting] != default[setting]}
    assert changed == set(PRESETS[name])


@pytest.mark.parametrize("name", PRESETS)
def test_the_settings_of_a_preset_make_the_same_config(name):
    config = SpecaConfig.build(PRESETS[name])
    assert SpecaConfig.build(config.to_dict()) == config
