"""Tiny configurations of ComfyUI's own model classes: every family of the table, and the variants
that take another way through it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.ace.ace_step15 import AceStepConditionGenerationModel
from comfy.ldm.audio.embedders import NumberConditioner
from comfy.ldm.chroma_radiance.model import ChromaRadianceParams


class Supported:
    """ComfyUI's model classes by name; None where this version of ComfyUI does not have the model
    yet."""

    def __getattr__(self, name):
        return getattr(comfy.supported_models, name, None)


supported = Supported()


def if_known(model, **settings):
    """Those settings that this version's class takes: some came later than the class."""
    return {
        name: value
        for name, value in settings.items()
        if name in inspect.signature(model).parameters
    }


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def usual(config):
    return config.get_model({}, "", device=torch.device("cpu"))


def stable_audio(config):
    """Its constructor wants the weights of the embedder of numbers."""
    numbers = {
        key: random(0, *weight.shape) for key, weight in NumberConditioner(768).state_dict().items()
    }
    return comfy.model_base.StableAudio1(config, numbers, numbers, device=torch.device("cpu"))


def ace(config):
    """With a short lyric encoder: it has no setting for its length, and is not what is tested."""
    model = usual(config)
    model.diffusion_model.lyric_encoder.encoders = model.diffusion_model.lyric_encoder.encoders[:1]
    return model


def anima(config):
    """Without the adapter of the text: it has no setting for its size, and runs before sampling."""
    model = usual(config)
    model.diffusion_model.llm_adapter = None
    return model


def wan_animate(config):
    """With a light reader of faces: it has no setting for its size, and is not what is tested."""
    model = usual(config)
    model.diffusion_model.motion_encoder.get_motion = lambda pixels: pixels.flatten(1)[:, :512]
    return model


def music(config):
    """With two narrow blocks: it has no settings for its sizes, and 36 blocks make it 10 GB."""
    from comfy.ldm.minimax_music.dit import TransformerBlock

    model = config.get_model({}, "", device=torch.device("meta"))
    transformer = model.diffusion_model.diffusion_transformer.transformer
    narrow = (2048, 64, 64, torch.float32, "meta", comfy.ops.disable_weight_init)
    transformer.layers = torch.nn.ModuleList(TransformerBlock(*narrow) for _ in range(2))
    model.diffusion_model.to_empty(device="cpu")
    return model


VOXELS = [7, 10]  # of each image: one is padded


def voxels(seed):
    """Numbers on some voxels of each image, the same for both conditionings: the later stages of
    Trellis 2. The first is a dense model of 4096 tokens."""
    places = [(image, i % 3, i // 3, i) for image, count in enumerate(VOXELS) for i in range(count)]
    return {
        "embeds": random(seed + 50, 1, 6, 32),
        "trellis2_generation_mode": "shape_generation",
        "trellis2_coords": torch.tensor(places),
        "trellis2_coord_counts": torch.tensor(VOXELS),
    }


@dataclass(frozen=True)
class Tiny:
    """A tiny model of one family.

    Attributes:
        config: ComfyUI's class of the model; None if this version has none. unet: its
            configuration.
        latent: shape without the batch; a list of shapes for a nested latent. text: tokens and
            channels.
        extra: further conditioning, made from a seed.
        make: makes the model from its configuration, where the class alone does not.
        cold: calls until its streams have their final length.
        rounding: how far two computations of the same may differ. Rows of a transposed stream lie
            otherwise in memory once stacked.
    """

    config: type | None
    unet: dict[str, Any]
    latent: Any
    text: tuple[int, int] = (6, 32)
    extra: Callable[[int], dict[str, Any]] = lambda seed: {}
    batch: int = 2
    scheduler: str = "simple"
    make: Callable[[Any], Any] = usual
    cold: int = 0
    rounding: float = 0.0


def pooled(channels):
    return lambda seed: {"pooled_output": random(seed + 50, 1, channels)}


FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 32, "context_in_dim": 32, "hidden_size": 64,
    "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 3, "axes_dim": [8, 12, 12], "theta": 10000, "patch_size": 2,
    "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX2 = FLUX | {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "axes_dim": [8, 8, 8, 8], "theta": 2000,
    "patch_size": 1, "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3], "depth_single_blocks": 2,
}  # fmt: skip
CHROMA = {key: value for key, value in FLUX.items() if key != "guidance_embed"} | {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 64, "hidden_dim": 64, "n_layers": 2,
    "vec_in_dim": None,
}  # fmt: skip
RADIANCE = CHROMA | {
    "image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 16, "nerf_hidden_size": 16, "nerf_mlp_ratio": 2,
    "nerf_depth": 1, "nerf_max_freqs": 2, "nerf_tile_size": 0, "nerf_final_head_type": "conv", "nerf_embedder_dtype": None,
    "use_x0": False,
} | if_known(ChromaRadianceParams, use_sequential_txt_ids=False)  # fmt: skip
SD3 = {
    "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "num_blocks": 3, "input_size": None, "adm_in_channels": 32,
    "qk_norm": "rms", "num_patches": 64, "pos_embed_max_size": 8, "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0],
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 128}},
}  # fmt: skip
AURA = {"in_channels": 4, "out_channels": 4, "dim": 64, "n_layers": 4, "n_double_layers": 2, "n_heads": 2, "global_conddim": 64,
        "cond_seq_dim": 32, "max_seq": 64}  # fmt: skip
HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 32, "hidden_size": 64,
    "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 3, "axes_dim": [8, 12, 12], "theta": 256,
    "patch_size": [1, 2, 2], "qkv_bias": True, "guidance_embed": True, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
HUNYUAN15 = HUNYUAN | {
    "in_channels": 65,
    "out_channels": 32,
    "vec_in_dim": None,
    "depth": 3,
    "depth_single_blocks": 0,
    # Fmt: skip.
    "vision_in_dim": 1152,
    "guidance_embed": False,
    "use_cond_type_embedding": True,
}
HUNYUAN_IMAGE = HUNYUAN | {
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "patch_size": [1, 1],
    "axes_dim": [16, 16],
}
HUNYUAN3D = {
    "image_model": "hunyuan3d2",
    "in_channels": 16,
    "context_in_dim": 32,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    # Fmt: skip.
    "depth": 2,
    "depth_single_blocks": 3,
    "qkv_bias": True,
    "guidance_embed": False,
}
HUNYUAN3D21 = {
    "image_model": "hunyuan3d2_1",
    "in_channels": 16,
    "hidden_size": 64,
    "context_dim": 32,
    "depth": 5,
    "num_heads": 2,
    # Fmt: skip.
    "num_moe_layers": 1,
    "num_experts": 2,
    "moe_top_k": 1,
    "guidance_cond_proj_dim": 64,
}
HUNYUAN_DIT = {"image_model": "hydit", "depth": 6, "hidden_size": 64, "num_heads": 2, "text_states_dim": 32, "text_states_dim_t5": 16,
               "text_len": 6, "text_len_t5": 4, "input_size": None}  # fmt: skip
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 64, "out_dim": 16, "num_heads": 2, "ffn_dim": 64, "num_layers": 4,
    "patch_size": (1, 2, 2), "freq_dim": 32, "text_dim": 32, "in_dim": 16, "cross_attn_norm": True,
}  # fmt: skip
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 3, "attention_head_dim": 32, "num_attention_heads": 2,
        "joint_attention_dim": 32, "axes_dims_rope": (8, 12, 12)}  # fmt: skip
MAGE = QWEN | {"image_model": "mage_flow", "in_channels": 128, "out_channels": 128}
Z_IMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "cap_feat_dim": 32, "n_layers": 3, "n_refiner_layers": 1,
    "qk_norm": True, "n_heads": 8, "n_kv_heads": 8, "axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "multiple_of": 16,
    "ffn_dim_multiplier": 0.25, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 4, "rope_theta": 256.0,
}  # fmt: skip
LUMINA = {key: value for key, value in Z_IMAGE.items() if key not in ("z_image_modulation", "time_scale", "pad_tokens_multiple")} | {
    "dim": 64, "n_heads": 2, "n_kv_heads": 2
}  # fmt: skip
Z_PIXEL = Z_IMAGE | {"image_model": "zimage_pixel", "patch_size": 8, "in_channels": 3, "decoder_hidden_size": 32,
                     "decoder_num_res_blocks": 1, "decoder_max_freqs": 2}  # fmt: skip
HIDREAM = {
    "image_model": "hidream", "attention_head_dim": 32, "axes_dims_rope": [16, 8, 8], "caption_channels": [32, 32],
    "max_resolution": [16, 16], "in_channels": 16, "llama_layers": [0, 1, 1, 1, 1], "num_attention_heads": 2, "num_routed_experts": 2,
    "num_activated_experts": 1, "num_layers": 2, "num_single_layers": 3, "out_channels": 16, "patch_size": 2, "text_emb_dim": 32,
}  # fmt: skip
HIDREAM_O1 = {
    "image_model": "hidream_o1",
    "text_config_overrides": {"vocab_size": 160000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
                              "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "rope_dims": [4, 2, 2]},
    "vision_config_overrides": {"hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "depth": 1, "num_position_embeddings": 16,
                                "deepstack_visual_indexes": ()},
}  # fmt: skip
LTXV = {"image_model": "ltxv", "num_layers": 3, "attention_head_dim": 32, "num_attention_heads": 2, "cross_attention_dim": 64,
        "caption_channels": 32, "in_channels": 128}  # fmt: skip
LTXAV = LTXV | {
    "image_model": "ltxav", "audio_attention_head_dim": 16, "audio_num_attention_heads": 2, "audio_cross_attention_dim": 32,
    "audio_in_channels": 128, "connector_attention_head_dim": 16, "connector_num_attention_heads": 2, "connector_num_layers": 1,
}  # fmt: skip
COSMOS = {
    "image_model": "cosmos", "max_img_h": 16, "max_img_w": 16, "max_frames": 16, "in_channels": 16, "out_channels": 16,
    "patch_spatial": 2, "patch_temporal": 1, "model_channels": 64, "block_config": "FA-CA-MLP", "concat_padding_mask": True,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": False, "pos_emb_interpolation": "crop", "block_x_format": "THWBD",
    "affline_emb_norm": True, "use_adaln_lora": True, "adaln_lora_dim": 16, "num_blocks": 3, "num_heads": 2,
    "extra_per_block_abs_pos_emb": True, "extra_per_block_abs_pos_emb_type": "learnable", "crossattn_emb_channels": 32,
}  # fmt: skip
PREDICT2 = {
    "image_model": "cosmos_predict2", "max_img_h": 16, "max_img_w": 16, "max_frames": 16, "in_channels": 16, "out_channels": 16,
    "patch_spatial": 2, "patch_temporal": 1, "model_channels": 64, "concat_padding_mask": True, "crossattn_emb_channels": 32,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30,
    "use_adaln_lora": True, "adaln_lora_dim": 16, "num_blocks": 3, "num_heads": 2, "extra_per_block_abs_pos_emb": False,
    "rope_enable_fps_modulation": False,
}  # fmt: skip
PIXART = {
    "image_model": "pixart_sigma",
    "num_heads": 2,
    "patch_size": 2,
    "hidden_size": 48,
    "in_channels": 4,
    "depth": 3,
    # Fmt: skip.
    "model_max_length": 6,
    "input_size": 8,
    "pe_interpolation": 1,
    "micro_condition": False,
    "caption_channels": 32,
}
MOCHI = {
    "image_model": "mochi_preview", "patch_size": 2, "in_channels": 12, "hidden_size_x": 96, "hidden_size_y": 48, "depth": 3,
    "num_heads": 2, "mlp_ratio_x": 128.0, "mlp_ratio_y": 2.0, "use_t5": True, "t5_feat_dim": 32, "t5_token_length": 6,
    "learn_sigma": False, "patch_embed_bias": True, "timestep_mlp_bias": True, "timestep_scale": 1000.0, "use_extended_posenc": True,
    "posenc_preserve_area": True, "rope_theta": 10000.0, "qk_norm": True, "qkv_bias": False, "out_bias": True,
}  # fmt: skip
ACE = {
    "audio_model": "ace",
    "in_channels": 8,
    "num_layers": 3,
    "inner_dim": 64,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    # Fmt: skip.
    "mlp_ratio": 2.0,
    "text_embedding_dim": 32,
    "lyric_hidden_size": 1024,
    "lyric_encoder_vocab_size": 32,
    "max_width": 64,
}
ACE15 = {
    "audio_model": "ace1.5", "hidden_size": 64, "text_hidden_dim": 32, "num_dit_layers": 3, "num_lyric_layers": 1, "num_timbre_layers": 1,
    "num_tokenizer_layers": 1, "num_heads": 2, "num_kv_heads": 2, "head_dim": 32, "intermediate_size": 64, "fsq_dim": 64,
} | if_known(
    AceStepConditionGenerationModel, encoder_hidden_size=64, encoder_intermediate_size=64, encoder_num_heads=2
)  # fmt: skip
STABLE_AUDIO = {"audio_model": "dit1.0", "io_channels": 64, "embed_dim": 768, "depth": 2, "num_heads": 2, "cond_token_dim": 768,
                "global_cond_dim": 1536, "project_cond_tokens": False}  # fmt: skip
OMNIGEN2 = {"image_model": "omnigen2", "hidden_size": 96, "num_layers": 3, "num_refiner_layers": 1, "num_attention_heads": 2,
            "num_kv_heads": 1, "multiple_of": 16, "ffn_dim_multiplier": 1.0, "axes_dim_rope": (16, 16, 16), "axes_lens": (64, 64, 64),
            "text_feat_dim": 32, "timestep_scale": 1000.0}  # fmt: skip
BOOGU = {key: value for key, value in OMNIGEN2.items() if key != "text_feat_dim"} | {
    "image_model": "boogu", "num_layers": 4, "num_double_stream_layers": 2, "instruction_feat_dim": 32
}  # fmt: skip
KANDINSKY = {
    "image_model": "kandinsky5",
    "in_text_dim": 32,
    "in_text_dim2": 32,
    "time_dim": 32,
    "model_dim": 64,
    "ff_dim": 64,
    # Fmt: skip.
    "visual_embed_dim": 132,
    "num_text_blocks": 1,
    "num_visual_blocks": 3,
    "axes_dims": (8, 12, 12),
}
COGVIDEO = {"image_model": "cogvideox", "num_attention_heads": 1, "attention_head_dim": 64, "time_embed_dim": 32, "text_embed_dim": 32,
            "num_layers": 3, "sample_width": 4, "sample_height": 4, "sample_frames": 9, "max_text_seq_length": 6,
            "use_rotary_positional_embeddings": True}  # fmt: skip
LENS = {"image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 3, "attention_head_dim": 32,
        "num_attention_heads": 2, "enc_hidden_dim": 32, "axes_dims_rope": (8, 12, 12), "multi_layer_encoder_feature": True,
        "selected_layer_index": (0, 1)}  # fmt: skip
JOYIMAGE = {"image_model": "joyimage", "hidden_size": 64, "num_attention_heads": 2, "text_dim": 32, "mlp_width_ratio": 2.0,
            "num_layers": 3, "rope_dim_list": [8, 12, 12], "theta": 256}  # fmt: skip
KREA2 = {"image_model": "krea2", "features": 64, "tdim": 32, "txtdim": 16, "heads": 2, "kvheads": 1, "multiplier": 2, "layers": 3,
         "txtlayers": 2, "txtheads": 1, "txtkvheads": 1}  # fmt: skip
IDEOGRAM = {
    "image_model": "ideogram4",
    "in_channels": 128,
    "num_layers": 3,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    # Fmt: skip.
    "intermediate_size": 64,
    "adaln_dim": 32,
    "llm_features_dim": 32,
    "mrope_section": (6, 5, 5),
}
ERNIE = {"image_model": "ernie", "hidden_size": 64, "num_attention_heads": 2, "num_layers": 3, "ffn_hidden_size": 64, "text_in_dim": 32,
         "rope_axes_dim": (8, 12, 12)}  # fmt: skip
PIXELDIT = {"image_model": "pixeldit_t2i", "num_groups": 2, "hidden_size": 64, "pixel_hidden_size": 16, "pixel_attn_hidden_size": 32,
            "pixel_num_groups": 2, "patch_depth": 3, "pixel_depth": 1, "patch_size": 8, "txt_embed_dim": 32,
            "txt_max_length": 6}  # fmt: skip
PID = PIXELDIT | {
    "image_model": "pid",
    "lq_hidden_dim": 32,
    "lq_num_res_blocks": 1,
    "sr_scale": 1,
    "patch_size": 8,
}
TRIPOSPLAT = {"image_model": "triposplat", "q_token_length": 16, "model_channels": 64, "cond_channels": 32, "num_blocks": 3,
              "num_refiner_blocks": 1, "num_head_channels": 32, "mlp_ratio": 2}  # fmt: skip
MINIMAX = {
    "image_model": "minimax_h3", "hidden_size": 64, "num_layers": 3, "token_refiner_num_layers": 1, "num_attention_heads": 2,
    "attention_head_dim": 32, "ffn_hidden_size": 64, "text_dim": 32, "timestep_input_dim": 32, "time_embed_hidden_size": 32,
    "time_embed_dim": 32, "rope_inv_freq_len": 4,
}  # fmt: skip


def mask(seed):
    return {"attention_mask": torch.ones(1, 6, dtype=torch.long)}


IMAGE, VIDEO = (16, 8, 8), (16, 3, 4, 4)

TINY = {
    "flux": Tiny(supported.Flux, FLUX, IMAGE, extra=pooled(32)),
    "flux2": Tiny(supported.Flux2, FLUX2, (128, 4, 4), extra=pooled(32)),
    "chroma": Tiny(supported.Chroma, CHROMA, IMAGE, extra=pooled(32)),
    "radiance": Tiny(supported.ChromaRadiance, RADIANCE, (3, 32, 32), extra=pooled(32)),
    "sd3": Tiny(supported.SD3, SD3, IMAGE, extra=pooled(32)),
    "aura": Tiny(supported.AuraFlow, AURA, (4, 8, 8)),
    "hunyuan_video": Tiny(supported.HunyuanVideo, HUNYUAN, VIDEO, extra=pooled(768)),
    "hunyuan_video15": Tiny(supported.HunyuanVideo15, HUNYUAN15, (32, 3, 4, 4), extra=pooled(768)),
    "hunyuan_image": Tiny(supported.HunyuanImage21, HUNYUAN_IMAGE, (64, 4, 4)),
    "hunyuan3d": Tiny(supported.Hunyuan3Dv2, HUNYUAN3D, (16, 8)),
    "hunyuan3d21": Tiny(supported.Hunyuan3Dv2_1, HUNYUAN3D21, (16, 8)),
    "hunyuan_dit": Tiny(
        supported.HunyuanDiT, HUNYUAN_DIT, (4, 8, 8),
        extra=lambda seed: {"attention_mask": torch.ones(1, 6), "conditioning_mt5xl": random(seed + 50, 1, 4, 16),
                            "attention_mask_mt5xl": torch.ones(1, 4)},
    ),
    "wan": Tiny(supported.WAN21_T2V, WAN, VIDEO),
    "wan_i2v": Tiny(supported.WAN21_I2V, WAN | {"model_type": "i2v", "in_dim": 36}, VIDEO),
    "wan_camera": Tiny(supported.WAN21_Camera, WAN | {"model_type": "camera", "in_dim": 32}, VIDEO),
    "wan_humo": Tiny(
        supported.WAN21_HuMo, WAN | {"model_type": "humo", "in_dim": 36}, VIDEO,
        extra=lambda seed: {"audio_embed": random(seed + 50, 1, 3, 8, 5, 1280)},
    ),
    "wan_vace": Tiny(supported.WAN21_Vace, WAN | {"model_type": "vace", "vace_layers": 2, "vace_in_dim": 96}, VIDEO),
    "wan_s2v": Tiny(
        supported.WAN22_S2V, WAN | {"model_type": "s2v", "audio_dim": 16, "num_audio_token": 2, "audio_inject_layers": [0, 3]}, VIDEO,
        extra=lambda seed: {"audio_embed": random(seed + 50, 1, 25, 16, 12)},
    ),
    "wan_animate": Tiny(
        supported.WAN22_Animate, WAN | {"model_type": "animate", "in_dim": 36, "num_layers": 5}, VIDEO, make=wan_animate,
        extra=lambda seed: {"face_video_pixels": random(seed + 50, 1, 3, 4, 16, 16)},
    ),
    "wan_dancer": Tiny(
        supported.WAN22_WanDancer, WAN | {"model_type": "wandancer", "in_dim": 36, "audio_inject_layers": [0, 3], "music_dim": 64,
                                          "music_latent_dim": 64, "music_heads": 2}, (16, 3, 8, 8),
        extra=lambda seed: {"audio_embed": random(seed + 50, 1, 8, 35)},
    ),
    "wan_scail": Tiny(
        supported.WAN21_SCAIL, WAN | {"model_type": "scail", "in_dim": 20}, VIDEO,
        extra=lambda seed: {"pose_video_latent": random(seed + 50, 1, 16, 3, 2, 2)},
    ),
    "wan_scail2": Tiny(
        supported.WAN21_SCAIL2, WAN | {"model_type": "scail2", "in_dim": 20}, VIDEO,
        extra=lambda seed: {"pose_video_latent": random(seed + 50, 1, 16, 3, 2, 2)},
    ),
    "wan_causal": Tiny(supported.WAN21_CausalAR_T2V, WAN, VIDEO),
    "qwen": Tiny(supported.QwenImage, QWEN, (16, 1, 8, 8)),
    "mage_flow": Tiny(supported.MageFlow, MAGE, (128, 4, 4)),
    "lens": Tiny(supported.Lens, LENS, (128, 4, 4), (6, 64)),
    "joyimage": Tiny(supported.JoyImage, JOYIMAGE, (16, 1, 8, 8)),
    "z_image": Tiny(supported.ZImage, Z_IMAGE, IMAGE),
    "z_image_pixel": Tiny(supported.ZImagePixelSpace, Z_PIXEL, (3, 32, 32)),
    "lumina": Tiny(supported.Lumina2, LUMINA, IMAGE),
    "hidream": Tiny(
        supported.HiDream, HIDREAM, IMAGE,
        extra=lambda seed: {"pooled_output": random(seed + 50, 1, 32), "conditioning_llama3": random(seed + 60, 1, 2, 6, 32)},
    ),
    "hidream_o1": Tiny(
        supported.HiDreamO1, HIDREAM_O1, (3, 64, 64), cold=1,
        extra=lambda seed: {"text_input_ids": torch.randint(5, 100, (1, 6), generator=torch.Generator().manual_seed(seed))},
    ),
    "ltxv": Tiny(supported.LTXV, LTXV, (128, 2, 4, 4), extra=mask),
    "ltxav": Tiny(supported.LTXAV, LTXAV, [(128, 2, 4, 4), (8, 5, 16)], (6, 64), extra=mask),
    "cosmos": Tiny(supported.CosmosT2V, COSMOS, (16, 2, 4, 4), scheduler="karras"),
    "predict2": Tiny(supported.CosmosT2IPredict2, PREDICT2, (16, 1, 8, 8)),
    "anima": Tiny(supported.Anima, PREDICT2 | {"image_model": "anima", "crossattn_emb_channels": 32}, (16, 1, 8, 8), make=anima),
    "pixart": Tiny(supported.PixArtSigma, PIXART, (4, 34, 34)),
    "mochi": Tiny(supported.GenmoMochi, MOCHI, (12, 2, 4, 4), extra=mask),
    "ace": Tiny(supported.ACEStep, ACE, (8, 16, 16), extra=lambda seed: {"conditioning_lyrics": torch.arange(1, 5)[None]}, make=ace),
    "ace15": Tiny(
        supported.ACEStep15, ACE15, (64, 20), rounding=1e-4,
        extra=lambda seed: {"conditioning_lyrics": random(seed + 50, 1, 5, 32)},
    ),
    "stable_audio": Tiny(supported.StableAudio, STABLE_AUDIO, (64, 16), (6, 768), make=stable_audio),
    "omnigen2": Tiny(supported.Omnigen2, OMNIGEN2, IMAGE, extra=mask),
    "boogu": Tiny(supported.Boogu, BOOGU, IMAGE, extra=mask),
    "kandinsky": Tiny(supported.Kandinsky5, KANDINSKY, VIDEO, extra=pooled(32)),
    "cogvideo": Tiny(supported.CogVideoX_T2V, COGVIDEO, VIDEO),
    "krea2": Tiny(supported.Krea2, KREA2, (16, 1, 8, 8), (6, 32)),
    "ideogram": Tiny(supported.Ideogram4, IDEOGRAM, (128, 4, 4)),
    "ernie": Tiny(supported.ErnieImage, ERNIE, (128, 4, 4)),
    "pixeldit": Tiny(supported.PixelDiTT2I, PIXELDIT, (3, 32, 32)),
    "pid": Tiny(
        supported.PiD, PID, (3, 32, 32),
        extra=lambda seed: {"lq_latent": random(seed + 50, 1, 16, 4, 4), "degrade_sigma": torch.tensor([0.3])},
    ),
    "triposplat": Tiny(supported.TripoSplat, TRIPOSPLAT, [(16, 16), (1, 5)]),
    "minimax": Tiny(supported.MiniMaxH3, MINIMAX, [(24, 2, 4, 4), (32, 2, 4)], batch=1),
}  # fmt: skip

TRELLIS2 = {
    "image_model": "trellis2", "resolution": 4, "model_channels": 32, "cond_channels": 32, "num_blocks": 2, "num_heads": 2, "mlp_ratio": 2,
}  # fmt: skip

# Families that ComfyUI 0.30 lacks; they are in no table, and run at level prediction.
NEWER = {
    "wan_animate2": Tiny(
        supported.WAN_Animate2, WAN | {"model_type": "animate2", "in_dim": 36}, VIDEO,
        extra=lambda seed: {"pose_video_latent": random(seed + 50, 1, 16, 2, 4, 4)},
    ),
    "minimax_music3": Tiny(
        supported.MiniMaxMusic3, {"audio_model": "minimax_music3"}, (128, 16), (5, 8 * 4096), make=music,
        extra=lambda seed: {"conditioning_scale": torch.ones(1, 1, 1)},
    ),
    "trellis2": Tiny(supported.Trellis2, TRELLIS2, (32, max(VOXELS), 1), extra=voxels),
    "pixal3d": Tiny(
        supported.Trellis2, TRELLIS2 | {"image_attn_mode_shape": "proj", "proj_in_channels_shape": 8}, (32, max(VOXELS), 1),
        extra=lambda seed: voxels(seed) | {"trellis2_proj_feats": random(0, sum(VOXELS), 8)},
    ),
}  # fmt: skip
NEWER_NOT_YET = {name for name, tiny in NEWER.items() if tiny.config is None}
NOT_YET = {name for name, tiny in TINY.items() if tiny.config is None}
TINY = {name: tiny for name, tiny in TINY.items() if name not in NOT_YET}
