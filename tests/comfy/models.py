"""Models for the tests: our trained tiny Flux, and tiny random instances of ComfyUI's own classes.

Random weights say nothing about quality, but bit-exactness, row independence and bookkeeping do not
need any.
"""

import sys

import comfy.model_patcher
import comfy.nested_tensor
import comfy.sample
import comfy.sd
import comfy.utils
import torch
from conftest import PACK
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.config import WITHOUT_PROFILE
from tiny import TINY, random


def checked(threshold=0.1, *choices, **changed):
    """Settings of tests about drafts that are checked one by one."""
    chosen = dict(zip(WITHOUT_PROFILE, choices, strict=False))
    return SpecaConfig(threshold, **(WITHOUT_PROFILE | chosen | changed))


def features(*choices, **changed):
    """Settings of tests about the inside of a model."""
    return checked(*choices, **({"level": "features"} | changed))


CPU = torch.device("cpu")


def build(name, seed=0):
    """A ModelPatcher around a tiny model with random, well-scaled weights."""
    tiny = TINY[name]
    config = tiny.config(dict(tiny.unet))
    config.unet_config.update(tiny.unet)  # the class's defaults would win otherwise
    config.set_inference_dtype(torch.float32, None)
    model = tiny.make(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.diffusion_model.parameters():
        if parameter.ndim >= 2:
            scale = 0.7 / parameter[0].numel() ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        else:
            parameter.copy_(1.0 + 0.1 * torch.randn(parameter.shape, generator=generator))
    for name, buffer in model.diffusion_model.named_buffers():
        # ComfyUI leaves it uninitialised for the checkpoint to fill.
        if name.endswith(("pos_embed", "pos_emb", "inv_freq", "beta")):
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def noise_tiny(name, images, seed=7):
    """Noise of the given images of a batch, whichever others are with them."""
    shapes = TINY[name].latent
    parts = [
        torch.stack([random(seed + 100 * image + part, *shape) for image in images])
        for part, shape in enumerate(shapes if isinstance(shapes, list) else [shapes])
    ]
    return comfy.nested_tensor.NestedTensor(parts) if isinstance(shapes, list) else parts[0]


def sample_tiny(model, name, images=None, steps=10, cfg=3.0, sampler="euler", **kwargs):
    """Sample a tiny model through ComfyUI's own KSampler; a nested latent comes back packed into
    one tensor."""
    tiny = TINY[name]
    noise = noise_tiny(name, range(tiny.batch) if images is None else images)
    blank = (
        comfy.nested_tensor.NestedTensor([0 * part for part in noise.unbind()])
        if noise.is_nested
        else 0 * noise
    )
    positive, negative = ([[random(seed, 1, *tiny.text), tiny.extra(seed)]] for seed in (1, 2))
    getattr(model.model.diffusion_model, "clear_kv_cache", lambda: None)()  # of the run before
    latent = comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        tiny.scheduler,
        positive,
        negative,
        blank,
        disable_pbar=True,
        seed=7,
        **kwargs,
    )
    if latent.is_nested:
        latent, _ = comfy.utils.pack_latents(latent.unbind())
    assert torch.isfinite(latent).all(), "a tiny model with bad weights proves nothing"
    return latent


def trained_flux():
    return comfy.sd.load_diffusion_model(
        str(PACK / "demo/models/diffusion_models/flux_tiny.safetensors")
    )


def caption(text):
    """Conditioning of the trained Flux, from the demo's own text encoder."""
    import importlib.util

    folder = PACK / "demo/custom_nodes/speca_demo"
    spec = importlib.util.spec_from_file_location(
        "speca_demo", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = sys.modules["speca_demo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clip = module.DemoClip(module.VOCABULARIES["shapes"])
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


CAPTIONS = (
    "a big red circle left of a small blue star on green stripes",
    "a big white ring on black checks",
)


def sample_flux(
    model,
    prompt=CAPTIONS[0],
    batch=2,
    steps=28,
    cfg=3.0,
    sampler="euler",
    seed=5,
    noise=None,
    **kwargs,
):
    """Sample the trained Flux through ComfyUI's own KSampler."""
    latent = torch.zeros(batch, 16, 16, 16)
    noise = comfy.sample.prepare_noise(latent, seed) if noise is None else noise
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        "simple",
        caption(prompt),
        caption(""),
        latent,
        disable_pbar=True,
        seed=seed,
        **kwargs,
    )


def psnr(images, reference):
    """PSNR in dB of each image, [B, H, W, C] in 0..1."""
    return [
        (10 * torch.log10(1 / (a - b).square().mean())).item()
        for a, b in zip(images, reference, strict=True)
    ]


def decoder():
    import comfy.utils

    return comfy.sd.VAE(
        sd=comfy.utils.load_torch_file(str(PACK / "demo/models/vae/tiny_vae.safetensors"))
    ).decode
