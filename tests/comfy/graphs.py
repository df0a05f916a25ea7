"""What the tests of whole graphs share: samplers, patches, and the one assertion about a graph."""

import functools
import tempfile
from pathlib import Path

import comfy.sd
import pytest
import torch
from comfy_extras import nodes_custom_sampler
from models import CAPTIONS, caption, features
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.blocks.proxy import resolve
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.verifiers import VERIFIERS
from tiny import random

import nodes as core

LAX = features(threshold=0.7)  # drafts within ten steps
every_verifier = pytest.mark.parametrize(
    "verifier",
    [VERIFIERS[v]() for v in ("embedded", "last_block", "first_block")],
    ids=lambda v: v.name,
)


@functools.cache
def prompts():
    """The positive and the negative conditioning of the trained Flux."""
    return caption(CAPTIONS[0]), caption("")


def empty_latent(batch=1, height=16, width=16):
    return {"samples": torch.zeros(batch, 16, height, width)}


def ksampler(
    model, conditioning=None, latent=None, steps=10, cfg=3.0, sampler="euler", denoise=1.0, seed=5
):
    """ComfyUI's KSampler node; with `prompts()` if no conditioning is given."""
    positive, negative = conditioning or prompts()
    latent = latent or empty_latent()
    (made,) = core.KSampler().sample(
        model, seed, steps, cfg, sampler, "simple", positive, negative, latent, denoise
    )
    return made["samples"]


def custom_sampler(guider, model):
    """ComfyUI's SamplerCustomAdvanced node around a guider."""
    sigmas = nodes_custom_sampler.BasicScheduler.execute(model, "simple", 10, 1.0).result[0]
    noise = nodes_custom_sampler.RandomNoise.execute(5).result[0]
    sampler = nodes_custom_sampler.KSamplerSelect.execute("euler").result[0]
    return nodes_custom_sampler.SamplerCustomAdvanced.execute(
        noise, guider, sampler, sigmas, empty_latent()
    ).result[0]["samples"]


def with_node(node, *settings):
    """A function that patches a model with one of ComfyUI's nodes, of its new or its old interface.

    Example: `with_node(nodes_cfg.CFGNorm, 0.9)(model)`.
    """

    def patch(model):
        if hasattr(node, "execute"):
            return node.execute(model, *settings).result[0]
        return getattr(node(), node.FUNCTION)(model, *settings)[0]

    return patch


def lora(model, names, seed):
    """Random LoRA weights of rank 2 for some linear layers."""
    weights = {}
    for name in names:
        out, into = model.model.state_dict()[f"diffusion_model.{name}.weight"].shape
        weights[f"diffusion_model.{name}.lora_up.weight"] = 0.1 * random(seed, out, 2)
        weights[f"diffusion_model.{name}.lora_down.weight"] = 0.1 * random(seed + 1, 2, into)
    return weights


def with_lora(model):
    """The model with a LoRA on two linear layers, loaded by ComfyUI's own loader."""
    weights = lora(model, ("double_blocks.0.img_attn.qkv", "single_blocks.3.linear1"), seed=1)
    return comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]


def relative_distance(latent, plain):
    return (torch.linalg.vector_norm(latent - plain) / torch.linalg.vector_norm(plain)).item()


def left_behind(model):
    """Stand-ins that a run has not removed, by the names that they shadow."""
    diffusion_model = model.model.diffusion_model
    family = family_of(diffusion_model)
    places = [
        resolve(diffusion_model, path) for path in (*family.stacks, *family.heads, *family.between)
    ]
    return [name for parent, name in places if name in vars(parent)]


def assert_untouched(graph, served=True):
    """The untouched node does no harm in a graph: its first run teaches, and the second is served
    and skips something.

    Args:
        graph: see `assert_harmless`.
        served: False: no profile can be had. Drafts are checked one by one, and a short run may
            have none.
    """
    plain = graph(lambda model: model)
    with tempfile.TemporaryDirectory() as folder:
        store = ProfileStore(Path(folder))
        for state in ["learning", "served"] if served else ["none"]:
            latent = graph(lambda model: accelerate(model, SpecaConfig(), profiles=store))
            report = find(latent)
            assert report.profile["state"] == state
            assert state != "learning" or torch.equal(latent, plain)
            assert state != "served" or report.count("accepted") > 0, report.summary
    distance = relative_distance(latent, plain)
    assert torch.isfinite(latent).all() and distance < 0.4, f"distance {distance}"


def assert_harmless(graph, *models, max_distance=0.4, config=LAX):
    """SpeCa does no harm in a graph.

    Threshold 0 gives the plain result bit for bit. `config` drafts, and its result is finite and
    within `max_distance` of the plain one. The models are left as they were. This bounds harm and
    says nothing about quality: 0.4 is far more than an eye forgives.

    Args:
        graph: samples with every model put through the function that it is given.
        models: those that must be left as they were.
        max_distance: relative, in the latent.

    Returns:
        The plain latent, and the one with drafts.
    """
    options = [
        {k: dict(v) if isinstance(v, dict) else v for k, v in model.model_options.items()}
        for model in models
    ]
    plain = graph(lambda model: model)
    assert torch.isfinite(plain).all(), "a graph that fails without SpeCa proves nothing"
    zero = graph(lambda model: accelerate(model, features(threshold=0.0)))
    assert torch.equal(zero, plain), "threshold 0 must be the plain graph, bit for bit"
    latent = graph(lambda model: accelerate(model, config))
    report = find(latent)
    assert report.finished and report.count("accepted") > 0, report.summary
    distance = relative_distance(latent, plain)
    assert torch.isfinite(latent).all() and distance < max_distance, f"distance {distance}"
    for model, before in zip(models, options, strict=True):
        assert not left_behind(model), f"still shadowed: {left_behind(model)}"
        assert not model.wrappers and model.model_options == before, "the model was changed"
    return plain, latent
