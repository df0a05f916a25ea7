"""GET /speca/presets: what the page's buttons write into the widgets."""

import asyncio
import json

from speca_pack.nodes.accelerate import SpeCaAccelerate
from speca_pack.nodes.runtime.page import routes
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.config import PRESETS


def sent():
    return json.loads(asyncio.run(routes.presets(None)).text)


def test_the_page_gets_every_setting_of_every_preset():
    presets = sent()
    assert list(presets) == list(PRESETS)
    for name, settings in presets.items():
        assert settings == SpecaConfig.build(PRESETS[name]).to_dict()


def test_every_setting_has_its_widget():
    widgets = {
        entry.id: entry for entry in SpeCaAccelerate.GET_SCHEMA().inputs if entry.id != "model"
    }
    for settings in sent().values():
        assert set(settings) == set(widgets)
        for name in ("forecaster", "verifier", "budget"):
            (option,) = (o for o in widgets[name].options if o.key == settings[name]["name"])
            assert {entry.id for entry in option.inputs} == set(settings[name]) - {"name"}
