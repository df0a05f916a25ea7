"""Mechanics on every family: drafts change nothing they should not change."""

import math

import pytest
import torch
from models import TINY, build, sample_tiny
from speca_pack.speca_core import SpecaConfig, UnsupportedModel
from speca_pack.speca_core.bridge import passes
from speca_pack.speca_core.bridge.attach import accelerate
from speca_pack.speca_core.bridge.families import family_of
from speca_pack.speca_core.bridge.proxy import resolve
from speca_pack.speca_core.bridge.reports import find
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.verifiers import VERIFIERS

every_family = pytest.mark.parametrize("name", TINY)
every_verifier = pytest.mark.parametrize("verifier", [v() for v in VERIFIERS.values()], ids=lambda v: v.name)


@pytest.fixture(scope="module")
def plain():
    """Model and plain result per family, made once."""
    made = {}

    def get(name):
        if name not in made:
            model = build(name)
            made[name] = model, sample_tiny(model, name)
        return made[name]

    return get


@every_family
@every_verifier
def test_threshold_zero_is_the_plain_model_bit_for_bit(plain, name, verifier):
    model, expected = plain(name)
    latent = sample_tiny(accelerate(model, SpecaConfig(threshold=0.0, verifier=verifier)), name)
    assert torch.equal(latent, expected)
    assert find(latent).count("drafted") == 0


@every_family
@pytest.mark.parametrize("verifier", ["embedded", "last_block", "first_block"])
def test_rejecting_every_draft_is_the_plain_model_bit_for_bit(plain, name, verifier):
    model, expected = plain(name)
    latent = sample_tiny(accelerate(model, SpecaConfig(threshold=1e-12, verifier=VERIFIERS[verifier]())), name)
    assert torch.equal(latent, expected)
    assert find(latent).count("rejected") == 6 * 4  # 10 steps less 3 of warm-up and the last, 2 images of 2 branches


@every_family
@every_verifier
def test_drafts_with_the_exact_features_are_exact(plain, name, verifier, monkeypatch):
    """Serve drafts from an oracle: every forecast is what a full pass computes in the same call. Then skipping changes nothing."""
    model, expected = plain(name)
    truth = {}

    def full_pass_first(self, call, run):
        handler = passes.FullPass(self.anatomy, self.verifier, call, range(len(call.lanes)))
        output = run(handler, range(len(call.lanes)))
        if call.draft_rows:
            for row in range(len(call.lanes)):
                truth[row] = {tap: history.anchors[-1] for tap, history in call.lanes[row].histories.items()}
            call.forecast = lambda tap, rows: [truth[row][tap] for row in rows]
            call.opinions = lambda rows: self.verifier.name == "embedded" and [call.forecast("exit", rows)] * 2
            draft = passes.DraftPass(self.anatomy, self.verifier, call, call.draft_rows)
            drafted = run(draft, call.draft_rows)
            assert not draft.rejected
            torch.testing.assert_close(drafted, output, rtol=0, atol=0)
            return drafted
        return output

    monkeypatch.setattr("speca_pack.speca_core.bridge.run.Run._answer", full_pass_first)
    latent = sample_tiny(accelerate(model, SpecaConfig(threshold=1.0, verifier=verifier, hindsight=False)), name)
    assert torch.equal(latent, expected)
    assert find(latent).count("drafted") > 0


@every_family
@every_verifier
def test_infinite_tolerance_computes_exactly_warm_up_and_anchors(plain, name, verifier):
    model, _ = plain(name)
    config = SpecaConfig(math.inf, Newton(1, 0.0), verifier, Threshold(warmup=2, max_streak=3))
    report = find(sample_tiny(accelerate(model, config), name))
    computed = [call.index for call in report.calls if call.rows[0].verdict == "computed"]
    assert computed == [0, 1, 5, 9]  # two of warm-up, three drafts, one, three drafts and the protected last step
    assert report.count("drafted") == 6 * 4 and report.finished


@every_family
def test_some_rows_alone_are_as_in_the_batch(plain, name, monkeypatch):
    """Image 0 is forced to compute where image 1 drafts; both must come out as when run alone with the same decisions."""
    model, _ = plain(name)
    noise = torch.randn(2, *TINY[name].latent, generator=torch.Generator().manual_seed(3))
    images = {"now": [0, 1]}

    def judge_by_image(self, rows, errors):
        hard = [row for row in rows if images["now"][self.images[row]] == 0 and int(self.moment.position) % 2]
        for row in hard:
            self._rows[row].verdict = "rejected"
        return [row for row in rows if row not in hard], hard

    monkeypatch.setattr("speca_pack.speca_core.session.Call.judge", judge_by_image)
    fast = accelerate(model, SpecaConfig(threshold=1.0))
    together = sample_tiny(fast, name, noise=noise)
    mixed = [call for call in find(together).calls if {row.verdict for row in call.rows} == {"drafted", "rejected"}]
    assert mixed, "no call had one image drafted and the other computed"
    for image in (0, 1):
        images["now"] = [image]
        alone = sample_tiny(fast, name, batch=1, noise=noise[image : image + 1])
        torch.testing.assert_close(together[image : image + 1], alone, rtol=1e-4, atol=1e-4)


@every_family
def test_nothing_stays_behind(plain, name):
    model, expected = plain(name)
    keys = list(model.model.state_dict())
    diffusion_model = model.model.diffusion_model
    family = family_of(diffusion_model)
    places = [resolve(diffusion_model, path) for path in (*family.stacks, family.head)]
    options = {k: dict(v) if isinstance(v, dict) else v for k, v in model.model_options.items()}
    fast = accelerate(model, SpecaConfig(threshold=1.0))
    first, second = sample_tiny(fast, name), sample_tiny(fast, name)
    assert torch.equal(first, second), "a second run must not see the first"
    assert not [attribute for parent, attribute in places if attribute in vars(parent)]
    assert list(model.model.state_dict()) == keys
    assert model.model_options == options and not model.wrappers
    assert torch.equal(sample_tiny(model, name), expected), "the input model must be left as it is"


@every_family
def test_an_exception_in_a_block_restores_everything(plain, name):
    model, _ = plain(name)
    diffusion_model = model.model.diffusion_model
    family = family_of(diffusion_model)
    parent, attribute = resolve(diffusion_model, family.stacks[-1])
    block = getattr(parent, attribute)[-1]
    fast = accelerate(model, SpecaConfig(threshold=1.0))
    expected = sample_tiny(fast, name)
    calls = []

    def fail_on_the_fourth(*_):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("injected")

    hook = block.register_forward_pre_hook(fail_on_the_fourth)
    try:
        with pytest.raises(RuntimeError, match="injected"):
            sample_tiny(fast, name)
    finally:
        hook.remove()
    assert attribute not in vars(parent)
    assert torch.equal(sample_tiny(fast, name), expected)


def test_a_unet_is_refused_before_sampling():
    import comfy.model_patcher

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.diffusion_model = torch.nn.Linear(1, 1)

    model = comfy.model_patcher.ModelPatcher(Holder(), load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    with pytest.raises(UnsupportedModel, match=r"is a Linear; expected a diffusion transformer .*Flux.*bypass SpeCa Accelerate"):
        accelerate(model, SpecaConfig())
