"""Published architectures at their real size, from ComfyUI's own classes, with random weights made
on the device; no checkpoint is read.

Each has a reduced form, too: the same class with fewer and narrower blocks and a small latent, for
machines without a GPU.
"""

from dataclasses import dataclass, replace
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import torch

WELL_SCALED = 0.7  # of 1 / sqrt(fan-in): activations stay finite through sixty blocks


@dataclass(frozen=True)
class Giant:
    """One model at one size of picture.

    Attributes:
        name: for people, and for resuming.
        config: ComfyUI's class of the model, by name.
        unet: its configuration, as ComfyUI's detection finds it in the published weights.
        latent: shape without the batch.
        text: tokens and channels.
        pooled: channels of the pooled text; 0 if there is none.
        cfg: 1 gives one row per image; else there are two.
        weights: type of the weights; the computation is in bfloat16 (float32 on a CPU), as ComfyUI
            does it.
        batch: images of the mixed batch; 1 leaves it out.
        small: fields of `unet` that the reduced form has in place.
        small_latent, small_text: its latent and text.
    """

    name: str
    config: str
    unet: dict[str, Any]
    latent: tuple[int, ...]
    text: tuple[int, int]
    small: dict[str, Any]
    small_latent: tuple[int, ...]
    pooled: int = 0
    cfg: float = 1.0
    weights: torch.dtype = torch.bfloat16
    batch: int = 4
    small_text: tuple[int, int] = (16, 64)

    @property
    def reduced(self) -> "Giant":
        """The same class, small."""
        kept = torch.float32 if self.weights == torch.bfloat16 else self.weights
        weights = str(kept).removeprefix("torch.")
        return replace(
            self,
            name=f"{self.config}, {weights}",
            unet=self.unet | self.small,
            latent=self.small_latent,
            text=self.small_text,
            weights=kept,
        )

    def build(self, device: torch.device) -> Any:
        """A ModelPatcher around it."""
        config = getattr(comfy.supported_models, self.config)(dict(self.unet))
        config.unet_config.update(self.unet)  # the class's defaults would win otherwise
        compute = torch.bfloat16 if device.type != "cpu" else torch.float32
        config.set_inference_dtype(self.weights, None if self.weights == compute else compute)
        model = config.get_model({}, "", device=device).eval()
        if device.type != "meta":
            generator = torch.Generator(device).manual_seed(0)
            module = model.diffusion_model
            for tensor in [*module.parameters(), *module.buffers()]:
                if tensor.is_floating_point():
                    fill(tensor, compute, generator)
        return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)

    def sample(self, model: Any, steps: int, images: int = 1) -> torch.Tensor:
        """Sample with Euler through ComfyUI's own code; the texts are noise."""
        noise = torch.randn(images, *self.latent, generator=torch.Generator().manual_seed(1))
        texts = []
        for seed in (2, 3):
            generator = torch.Generator().manual_seed(seed)
            pooled = torch.randn(1, self.pooled, generator=generator) if self.pooled else None
            text = torch.randn(1, *self.text, generator=generator)
            texts.append([[text, {} if pooled is None else {"pooled_output": pooled}]])
        how = steps, self.cfg, "euler", "simple"
        made = comfy.sample.sample(model, noise, *how, *texts, 0 * noise, disable_pbar=True, seed=1)
        if not torch.isfinite(made).all():
            raise ArithmeticError(f"{self.name}: the latent is not finite; scale the weights down")
        return made  # type: ignore[no-any-return]


def fill(tensor: torch.Tensor, compute: torch.dtype, generator: torch.Generator) -> None:
    """Random weights: matrices scaled by their fan-in, all else about one."""
    made = torch.empty(tensor.shape, dtype=compute, device=tensor.device)
    made.normal_(generator=generator)
    if tensor.ndim >= 2:
        made.mul_(WELL_SCALED / max(1, tensor[0].numel()) ** 0.5)
    else:
        made.mul_(0.1).add_(1.0)
    tensor.copy_(made)


# fmt: off
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768,
    "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19,
    "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2,
    "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [], "yak_mlp": False,
    "txt_norm": False,
}
KLEIN = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None,
    "context_in_dim": 7680, "hidden_size": 3072, "mlp_ratio": 3.0, "num_heads": 24, "depth": 5,
    "depth_single_blocks": 20, "axes_dim": [32, 32, 32, 32], "theta": 2000, "patch_size": 1,
    "qkv_bias": False, "ops_bias": False, "guidance_embed": False, "global_modulation": True,
    "mlp_silu_act": True, "txt_ids_dims": [3], "default_ref_method": "index",
    "ref_index_scale": 10.0, "yak_mlp": False, "txt_norm": False,
}
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840, "cap_feat_dim": 2560,
    "n_layers": 30, "qk_norm": True, "n_heads": 30, "n_kv_heads": 30, "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512], "rope_theta": 256.0, "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
}
SD35 = {
    "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 38, "input_size": None,
    "adm_in_channels": 2048, "qk_norm": "rms", "num_patches": 36864, "pos_embed_max_size": 192,
    "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [], "context_embedder_config": {
        "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 2432},
    },
}
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 5120, "out_dim": 16, "num_heads": 40,
    "ffn_dim": 13824, "num_layers": 40, "patch_size": (1, 2, 2), "freq_dim": 256,
    "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6, "in_dim": 16,
}
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2],
    "vec_in_dim": 768, "axes_dim": [16, 56, 56], "meanflow": False, "context_in_dim": 4096,
    "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 20, "depth_single_blocks": 40,
    "theta": 256, "qkv_bias": True, "byt5": False, "guidance_embed": True,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}
# fmt: on
SMALL_STREAM = {
    "hidden_size": 256,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 5,
    "context_in_dim": 64,
}
# For models that are slow on a CPU: casts, and text padded to 512 tokens.
NARROW = SMALL_STREAM | {"hidden_size": 128, "num_heads": 1, "depth_single_blocks": 3}
SMALL_QWEN = {"num_layers": 4, "num_attention_heads": 2, "joint_attention_dim": 64}
SMALL_Z = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 6, "cap_feat_dim": 64}
SMALL_SD = {
    "depth": 4,
    "num_blocks": 4,
    "num_patches": 1024,
    "pos_embed_max_size": 32,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 64, "out_features": 256},
    },
}
SMALL_WAN = {"dim": 256, "num_heads": 2, "ffn_dim": 1024, "num_layers": 6, "text_dim": 64}
WAN_1B_UNET = WAN | {"dim": 1536, "num_heads": 12, "ffn_dim": 8960, "num_layers": 30}
IMAGE, SMALL_IMAGE, SMALL_VIDEO = (16, 128, 128), (16, 16, 16), (16, 3, 12, 12)

DEV = Giant(
    "FLUX.1-dev, 1024x1024",
    "Flux",
    FLUX,
    IMAGE,
    (512, 4096),
    SMALL_STREAM,
    SMALL_IMAGE,
    pooled=768,
)
WAN_14B = Giant(
    "Wan 2.1 14B, 832x480, 81 frames",
    "WAN21_T2V",
    WAN,
    (16, 21, 60, 104),
    (512, 4096),
    SMALL_WAN,
    SMALL_VIDEO,
    batch=1,
)
GIANTS = (
    DEV,
    replace(
        DEV,
        name="FLUX.1-dev, 1024x1024, fp8 weights",
        weights=torch.float8_e4m3fn,
        small=NARROW,
    ),
    Giant(
        "FLUX.2 Klein 4B, 1024x1024",
        "Flux2",
        KLEIN,
        (128, 64, 64),
        (512, 7680),
        NARROW,
        (128, 8, 8),
    ),
    Giant(
        "Qwen-Image, 1328x1328",
        "QwenImage",
        QWEN,
        (16, 1, 166, 166),
        (256, 3584),
        SMALL_QWEN,
        (16, 1, 16, 16),
        cfg=4.0,
    ),
    Giant("Z-Image, 1024x1024", "ZImage", Z_IMAGE, IMAGE, (256, 2560), SMALL_Z, SMALL_IMAGE),
    Giant(
        "SD3.5 Large, 1024x1024",
        "SD3",
        SD35,
        IMAGE,
        (154, 4096),
        SMALL_SD,
        SMALL_IMAGE,
        pooled=2048,
        cfg=4.5,
    ),
    replace(WAN_14B, name="Wan 2.1 1.3B, 832x480, 81 frames", unet=WAN_1B_UNET),
    WAN_14B,
    replace(WAN_14B, name="Wan 2.1 14B, 1280x720, 81 frames", latent=(16, 21, 90, 160)),
    Giant(
        "HunyuanVideo, 1280x720, 129 frames",
        "HunyuanVideo",
        HUNYUAN,
        (16, 33, 90, 160),
        (256, 4096),
        SMALL_STREAM,
        SMALL_VIDEO,
        pooled=768,
        batch=1,
    ),
)
# The first of each class and type of weights.
_FIRST = {(giant.config, giant.weights): giant for giant in reversed(GIANTS)}
REDUCED = [giant.reduced for giant in _FIRST.values()][::-1]
