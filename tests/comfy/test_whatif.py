"""The what-if's promise, on the trained demo model: within ten percent of what is then measured."""

import json
import time
from dataclasses import replace
from statistics import median

import pytest
from models import sample_flux, trained_flux
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.bridge.attach import accelerate
from speca_pack.speca_core.bridge.reports import find
from speca_pack.speca_core.report import RunReport
from speca_pack.speca_core.whatif import predict

# From the default run. Not promised at half its threshold: at 0.05 nearly every draft is expected to fail (54 of 56 computed), and 44 were.
THRESHOLDS = (0.08, 0.1, 0.15, 0.2, 0.3, 0.5)


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def measured(flux, config):
    """The report of a run as the page has it."""
    return RunReport.from_json(json.loads(json.dumps(find(sample_flux(accelerate(flux, config), batch=1)).to_json())))


def off_by(recorded, outcome):
    """The speed-up that `recorded` predicts for the settings of `outcome`, relative to what `outcome` measured."""
    prediction = predict(recorded, outcome.settings)
    computed = [run.rows - run.count("drafted") for run in (prediction, outcome)]
    assert abs(computed[0] - computed[1]) <= 0.1 * computed[1], (outcome.settings["threshold"], computed)
    predicted, measured = (run.plain_seconds / run.spent for run in (prediction, outcome))
    return predicted / measured - 1


def test_the_predicted_speed_up_is_within_ten_percent(flux, monkeypatch):
    monkeypatch.setattr(time, "perf_counter", time.thread_time)  # the other programs on this machine do not count
    measured(flux, SpecaConfig(threshold=0.0))  # the first run of a process is slower
    recorded = [measured(flux, SpecaConfig()) for _ in range(3)]
    # Verdicts are the same each time, but clocks differ, by ten percent on a busy machine: the median of three pairs.
    off = {t: median(off_by(run, measured(flux, replace(SpecaConfig(), threshold=t))) for run in recorded) for t in THRESHOLDS}
    assert all(abs(value) <= 0.1 for value in off.values()), off
