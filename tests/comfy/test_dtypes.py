"""What is kept is read as it is: no draft makes a copy of it in another dtype."""

import gc
import math

import pytest
import torch
from conftest import PACK, load
from models import build, checked, features, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.anchors import FeatureHistory
from speca_pack.speca_core.verifiers import VERIFIERS
from tiny import TINY

counting = load(PACK / "benchmarks/counting.py")

LATENT = math.prod(TINY["flux"].latent) * 2  # bytes, of one image in half precision
# Latents are float32, whatever the model computes in; its streams are not.
CONFIGS = {"learned": SpecaConfig(0.2), "checked": checked(1.0)}
CONFIGS |= {
    f"features, {name}": features(1.0, verifier=verifier()) for name, verifier in VERIFIERS.items()
}


def storage(tensor):
    """Which memory a tensor's numbers lie in."""
    return tensor.untyped_storage()._cdata


class Casts(counting.Counting):
    """Copies in another dtype that the pack makes of large tensors from before."""

    def __init__(self):
        super().__init__(counting.OURS)
        # Not those that torch.compile has traced: they have no numbers.
        tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
        self.before = {storage(each): each for each in tensors if each.layout is torch.strided}
        self.found = []

    def __exit__(self, *error):
        super().__exit__(*error)
        self.before.clear()  # until here none of them goes, and no storage is another's

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = super().__torch_dispatch__(func, types, args, kwargs)
        if func.overloadpacket is torch.ops.aten._to_copy and (place := self.place()):
            kept = storage(args[0]) in self.before
            if kept and args[0].nbytes >= LATENT and args[0].dtype != made.dtype:
                self.found.append(place)
        return made


def drafts(dtype, config):
    """What the drafts of a run have cast, and the dtypes of what was kept."""
    model, met = build("flux"), []
    model.set_model_compute_dtype(dtype)

    def meter():
        met.append(Casts())
        return met[-1]

    fast = accelerate(counting.metered(model, meter), config)
    sample_tiny(fast, "flux", steps=12)  # to learn
    met.clear()
    report = find(sample_tiny(fast, "flux", steps=12))
    verdicts = [{row.verdict for row in call.rows} for call in report.calls]
    casts = [found.found for found, each in zip(met, verdicts, strict=True) if "accepted" in each]
    assert casts
    return [place for found in casts for place in found]


@pytest.fixture
def kept(monkeypatch):
    """The dtypes of all anchors."""
    dtypes, record = set(), FeatureHistory.record

    def spy(self, at, feature):
        record(self, at, feature)
        dtypes.update(anchor.dtype for anchor in self.anchors)

    monkeypatch.setattr(FeatureHistory, "record", spy)
    return dtypes


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_no_draft_casts_what_is_kept(kept, dtype, name):
    assert not drafts(dtype, CONFIGS[name])
    assert kept == {dtype if "features" in name else torch.float32}


def test_a_cast_would_be_seen(monkeypatch):
    record = FeatureHistory.record

    def as_float32(self, *anchor):
        record(self, *anchor)
        self.device = torch.float32  # where anchors are brought before they are used

    monkeypatch.setattr(FeatureHistory, "record", as_float32)
    assert {place.split(":")[0] for place in drafts(torch.bfloat16, CONFIGS["features, none"])} == {
        "anchors.py"
    }
