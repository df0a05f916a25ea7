"""web/presets.json holds settings that the core accepts, in full."""

import json

import pytest

from speca_core import SpecaConfig

PRESETS = json.loads((Path(__file__).resolve().parents[2] / "web/presets.json").read_text(encoding="utf-8"))["presets"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_every_setting(name):
    assert SpecaConfig.build(PRESETS[name]).to_dict() == PRESETS[name]


def test_balanced_is_the_untouched_node():
    assert list(PRESETS) == ["quality", "balanced", "fast", "2x", "3x"]
    assert PRESETS["balanced"] == SpecaConfig().to_dict()
