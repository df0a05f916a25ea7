"""Several images at once, odd sizes, and what looks at a whole batch."""

import math

import pytest
import torch
from comfy_extras import nodes_mahiro
from graphs import assert_harmless, empty_latent, ksampler, with_node
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


def test_a_patch_that_looks_at_the_whole_batch_gets_all_of_it(flux):
    """Mahiro takes a mean over the batch: whatever filled a drafted image's place would be in
    it."""

    def accepted(model):
        fast = accelerate(model, features(threshold=0.2, level="prediction"))
        report = find(ksampler(fast, latent=empty_latent(3), steps=28))
        return [[row.verdict == "accepted" for row in call.rows] for call in report.calls]

    together = accepted(with_node(nodes_mahiro.Mahiro)(flux))
    assert [True] * 3 in together and all(len(set(rows)) == 1 for rows in together)
    alone = accepted(flux)
    assert any(len(set(rows)) == 2 for rows in alone), "without it each image decides for itself"


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
    computed = [[row.verdict != "accepted" for row in call.rows] for call in find(latent).calls]
    assert [True, False] in computed or [False, True] in computed
    assert set(sizes) == {4} and torch.isfinite(latent).all()


def test_a_model_whose_rows_belong_together_is_asked_as_a_whole():
    fast = accelerate(build("ace15"), features(threshold=math.inf, level="prediction"))
    report = find(sample_tiny(fast, "ace15"))
    assert report.coupled and report.count("accepted")
