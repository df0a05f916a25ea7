"""Models for the tests: our trained tiny Flux, and tiny random instances of ComfyUI's own classes.

Random weights say nothing about quality, but bit-exactness, row independence and bookkeeping do not need any.
"""

from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.supported_models as supported
import torch
from conftest import PACK

CPU = torch.device("cpu")


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Tiny:
    """A tiny model of one family: its ComfyUI class and config, latent and text shapes."""

    config: type
    unet: dict[str, Any]
    latent: tuple[int, ...]
    text: tuple[int, int]
    pooled: int | None = None


FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 32, "context_in_dim": 32, "hidden_size": 64,
    "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 3, "axes_dim": [8, 12, 12], "theta": 10000, "patch_size": 2,
    "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX2 = FLUX | {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "axes_dim": [8, 8, 8, 8], "theta": 2000,
    "patch_size": 1, "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3],
}  # fmt: skip
SD3 = {
    "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "num_blocks": 3, "input_size": None, "adm_in_channels": 32,
    "qk_norm": "rms", "num_patches": 64, "pos_embed_max_size": 8, "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0],
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 128}},
}  # fmt: skip
Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "cap_feat_dim": 32, "n_layers": 3, "n_refiner_layers": 1,
    "qk_norm": True, "n_heads": 8, "n_kv_heads": 8, "axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "multiple_of": 16,
    "ffn_dim_multiplier": 0.25, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 4, "rope_theta": 256.0,
}  # fmt: skip

TINY = {
    "flux": Tiny(supported.Flux, FLUX, (16, 8, 8), (6, 32), 32),
    "flux2": Tiny(supported.Flux2, FLUX2, (128, 4, 4), (6, 32)),
    "sd3": Tiny(supported.SD3, SD3, (16, 8, 8), (6, 32), 32),
    "z_image": Tiny(supported.ZImage, Z_IMAGE, (16, 8, 8), (6, 32)),
}


def build(name, seed=0):
    """A ModelPatcher around a tiny model with random, well-scaled weights."""
    tiny = TINY[name]
    config = tiny.config(dict(tiny.unet))
    config.unet_config.update(tiny.unet)  # the class's defaults would win otherwise
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=CPU).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.diffusion_model.parameters():
        if parameter.ndim >= 2:
            scale = 0.7 / parameter[0].numel() ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
        else:
            parameter.copy_(1.0 + 0.1 * torch.randn(parameter.shape, generator=generator))
    for name, buffer in model.diffusion_model.named_buffers():
        if name.endswith("pos_embed"):  # ComfyUI leaves it uninitialised for the checkpoint to fill
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def conditioning(name, seed):
    tiny = TINY[name]
    extra = {"pooled_output": random(seed + 50, 1, tiny.pooled)} if tiny.pooled else {}
    return [[random(seed, 1, *tiny.text), extra]]


def sample_tiny(model, name, batch=2, steps=10, cfg=3.0, sampler="euler", seed=7, noise=None, **kwargs):
    """Sample a tiny model through ComfyUI's own KSampler."""
    latent = torch.zeros(batch, *TINY[name].latent)
    noise = comfy.sample.prepare_noise(latent, seed) if noise is None else noise
    positive, negative = conditioning(name, 1), conditioning(name, 2)
    latent = comfy.sample.sample(
        model, noise, steps, cfg, sampler, "simple", positive, negative, latent, disable_pbar=True, seed=seed, **kwargs
    )
    assert torch.isfinite(latent).all(), "a tiny model with bad weights proves nothing"
    return latent


def trained_flux():
    return comfy.sd.load_diffusion_model(str(PACK / "demo/models/diffusion_models/flux_tiny.safetensors"))


def caption(text):
    """Conditioning of the trained Flux, from the demo's own text encoder."""
    import importlib.util

    path = PACK / "demo/custom_nodes/speca_demo_text/__init__.py"
    spec = importlib.util.spec_from_file_location("speca_demo_text", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clip = module.DemoClip()
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


CAPTIONS = ("a big red circle left of a small blue star on green stripes", "a big white ring on black checks")


def sample_flux(model, prompt=CAPTIONS[0], batch=2, steps=28, cfg=3.0, sampler="euler", seed=5, noise=None, **kwargs):
    """Sample the trained Flux through ComfyUI's own KSampler."""
    latent = torch.zeros(batch, 16, 16, 16)
    noise = comfy.sample.prepare_noise(latent, seed) if noise is None else noise
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, "simple", caption(prompt), caption(""), latent, disable_pbar=True, seed=seed, **kwargs
    )


def psnr(images, reference):
    """PSNR in dB of each image, [B, H, W, C] in 0..1."""
    return [(10 * torch.log10(1 / (a - b).square().mean())).item() for a, b in zip(images, reference, strict=True)]


def decoder():
    import comfy.utils

    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(PACK / "demo/models/vae/tiny_vae.safetensors"))).decode
