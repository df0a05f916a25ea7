"""On a device that is pretended: tensors of both places never meet, and the host seldom waits."""

import pytest
import torch
from models import build, checked, features, sample_tiny, trained_flux
from pretended import Impossible, Pretended
from speca_pack.nodes.runtime import attach
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.calibration import Calibration
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.anchors import FeatureHistory
from speca_pack.speca_core.gatherer import some_numbers
from test_calibrate import recipe

FAMILY, STEPS = "flux", 14
CONFIGS = {"learned": SpecaConfig(0.2), "prediction": checked(1.0), "features": features(1.0)}
# One slope per step; two of them; two places per step.
SAMPLERS = [("learned", "euler"), ("learned", "dpmpp_2m"), ("learned", "heun")]
SAMPLERS += [("prediction", "euler"), ("features", "euler")]
# Where what is kept on the host goes, and comes from.
KEEPERS = {"anchors.py", "correction.py", "jumps.py", "landing.py", "gatherer.py"}
MOVED = {"learned": 25, "prediction": 35, "features": 61}  # in one call of two images, at most


@pytest.fixture(scope="module")
def model():
    return build(FAMILY)


def place(monkeypatch, where):
    monkeypatch.setattr(attach, "on_host", lambda *_: where == "host")


def run(model, config, sampler="euler"):
    """The report, and the device."""
    device = Pretended()
    fast = device.sampling(accelerate(model, config))
    report = find(sample_tiny(fast, FAMILY, steps=STEPS, sampler=sampler))
    assert report.finished and len(report.calls) == len(device.waits)
    return report, device


def too_many(report, device, checks):
    """Calls that have read more values than where the sampler is, how far off a computed output's
    forecast was, and what a draft's check says."""
    for call, waits in zip(report.calls, device.waits, strict=True):
        verdicts = {row.verdict for row in call.rows}
        computed, drafted = verdicts & {"computed", "rejected"}, verdicts & {"accepted", "rejected"}
        if len(waits.read) > 1 + bool(computed) + (checks and bool(drafted)):
            yield verdicts, waits.read


def files(places):
    return {place.split(":")[0] for place in places}


@pytest.mark.parametrize(("name", "sampler"), SAMPLERS)
@pytest.mark.parametrize("where", ["device", "host"])
def test_waits(model, monkeypatch, name, sampler, where):
    place(monkeypatch, where)
    if name == "learned":
        report, device = run(model, CONFIGS[name], sampler)
        assert all(len(waits.read) == 1 for waits in device.waits), "where the sampler is"
        assert files(device.between.moved) == ({"gatherer.py"} if where == "device" else set())
    report, device = run(model, CONFIGS[name], sampler)
    assert report.placement == where
    assert report.count("accepted") and report.count("computed")
    assert not [*too_many(report, device, checks=name != "learned")]
    assert report.waits == sum(len(waits.read) for waits in device.waits), "as bug reports say"
    assert not device.between.read and not device.between.moved
    moved = files(place for waits in device.waits for place in waits.moved)
    assert moved <= (KEEPERS if where == "host" else set()) and bool(moved) == (where == "host")
    assert max(len(waits.moved) for waits in device.waits) <= MOVED[name]


@pytest.mark.parametrize("level", ["prediction", "features"])
def test_a_rejected_draft_reads_all_three(model, level):
    report, device = run(model, checked(1e-6, level=level))
    assert max(len(waits.read) for waits in device.waits) == 3 and report.count("rejected")
    assert [*too_many(report, device, checks=False)], "or nothing is counted"


def test_float64_would_be_seen():
    """Some devices have none."""
    device = Pretended()
    with device, pytest.raises(Impossible, match="float64"):
        some_numbers(device.put(torch.ones(2, 8, dtype=torch.float64)))


def test_a_calibration_has_nothing_to_mix(tmp_path):
    """It compares what runs have shown, after they are over."""
    device = Pretended()
    store = ProfileStore(tmp_path)
    assert Calibration(recipe(device.sampling(trained_flux())), (1,), store).run() and store.all()


def test_a_mix_would_be_seen(model, monkeypatch):
    """An anchor that is not brought to the device before it is used."""
    place(monkeypatch, "host")
    monkeypatch.setattr(FeatureHistory, "at_hand", lambda self, count: self.anchors[-count:])
    with pytest.raises(
        Impossible, match=r"\w+\.py:\d+: aten\S+ of tensors on the device and on the host"
    ):
        run(model, CONFIGS["prediction"])
