"""The what-if's promise, on the trained demo model: within ten percent of what is then measured."""

import json
import time
from dataclasses import replace

import pytest
import torch
from models import checked, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core.replay import replay
from speca_pack.speca_core.report_json import read, write

# From the default run. Not promised at half its threshold, where nearly every draft is expected to
# fail and many do not.
THRESHOLDS = (0.08, 0.1, 0.15, 0.2, 0.3, 0.5)


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def measured(flux, config):
    """The report of a run as the page has it."""
    return read(json.loads(json.dumps(write(find(sample_flux(accelerate(flux, config), batch=1))))))


def off_by(recorded, outcome):
    """The speed-up that `recorded` predicts for the settings of `outcome`, relative to what
    `outcome` measured."""
    prediction = replay(recorded, outcome.settings)
    computed = [run.rows - run.count("accepted") for run in (prediction, outcome)]
    assert abs(computed[0] - computed[1]) <= 0.1 * computed[1], (
        outcome.settings["threshold"],
        computed,
    )
    predicted, measured = (run.plain_seconds / run.spent for run in (prediction, outcome))
    return predicted / measured - 1


class Work:
    """A clock that counts the multiplications in the model's linear layers: seconds differ by ten
    percent from run to run themselves."""

    def __init__(self, model):
        self.now = 0.0
        self.hooks = [
            module.register_forward_hook(self.count)
            for module in model.modules()
            if isinstance(module, torch.nn.Linear)
        ]

    def count(self, module, inputs, output):
        self.now += inputs[0].numel() * module.out_features

    def read(self):
        return self.now


def test_the_predicted_speed_up_is_within_ten_percent(flux, monkeypatch):
    """One verdict that falls the other way changes the rest of a run: of 60 predictions 55 were
    within 10 %, all within 14."""
    work = Work(flux.model.diffusion_model)
    monkeypatch.setattr(time, "perf_counter", work.read)
    recorded = measured(flux, checked())
    off = {t: off_by(recorded, measured(flux, replace(checked(), threshold=t))) for t in THRESHOLDS}
    for hook in work.hooks:
        hook.remove()
    *most, worst = sorted(map(abs, off.values()))
    assert max(most) <= 0.1 and worst <= 0.15, off
