"""Several images at once, odd sizes, and what looks at a whole batch."""

import math

import pytest
import torch
from graphs import assert_harmless, empty_latent, ksampler
from models import build, features, sample_tiny, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


@pytest.mark.parametrize("shape", [(4, 16, 16), (3, 12, 20), (1, 15, 17), (2, 9, 11)], ids=str)
def test_batches_and_odd_sizes(flux, shape):
    assert_harmless(lambda wrap: ksampler(wrap(flux), latent=empty_latent(*shape)), flux)


def test_another_size_in_the_next_run(flux):
    fast = accelerate(flux, features())
    first = ksampler(fast)
    ksampler(fast, latent=empty_latent(2, 12, 20))
    assert torch.equal(ksampler(fast), first)


def test_a_function_that_looks_at_the_whole_batch_gets_all_of_it_on_drafts_too(flux):
    """As Mahiro's does, which takes a mean over the batch: whatever filled the place of a drafted
    image would be in it."""
    heard = []

    def listening(model):
        model = model.clone()
        model.set_model_sampler_post_cfg_function(
            lambda args: (heard.append(args["denoised"].clone()), args["denoised"])[1]
        )
        return model

    plain = ksampler(listening(flux), latent=empty_latent(3), steps=28)
    expected, heard[:] = list(heard), []
    fast = accelerate(listening(flux), features(threshold=0.2, level="prediction"))
    made = ksampler(fast, latent=empty_latent(3), steps=28)
    report = find(made)
    assert report.count("accepted") and len(heard) == len(expected) == 28
    assert any(len({row.verdict for row in call.rows}) == 2 for call in report.calls)
    for told, wanted in zip(heard, expected, strict=True):
        off, size = (t.flatten(1).norm(dim=1) for t in (told - wanted, wanted))
        assert (off < 0.5 * size).all()
    assert not torch.equal(made, plain)


def test_a_patch_that_puts_tiles_into_the_batch_gets_all_of_them(flux):
    sizes = []

    def tiled(apply, options):
        halves = [options["input"][..., :8], options["input"][..., 8:]]
        conds = {
            k: torch.cat([v, v]) if isinstance(v, torch.Tensor) else v
            for k, v in options["c"].items()
        }
        made = apply(torch.cat(halves), torch.cat([options["timestep"]] * 2), **conds)
        sizes.append(len(made))
        return torch.cat(made.chunk(2), dim=-1)

    model = flux.clone()
    model.set_model_unet_function_wrapper(tiled)
    fast = accelerate(model, features(threshold=0.2, level="prediction"))
    latent = ksampler(fast, latent=empty_latent(2), steps=28, cfg=1.0)
    accepted = [{row.verdict == "accepted" for row in call.rows} for call in find(latent).calls]
    assert {True} in accepted and {True, False} not in accepted, "whose tiles are they?"
    assert sizes == [4] * 28 and torch.isfinite(latent).all()


def test_a_model_whose_rows_belong_together_is_asked_as_a_whole():
    fast = accelerate(build("ace15"), features(threshold=math.inf, level="prediction"))
    report = find(sample_tiny(fast, "ace15"))
    assert report.coupled and report.count("accepted")
