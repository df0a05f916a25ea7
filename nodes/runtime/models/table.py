"""The models that SpeCa knows: one entry per family. A new family is one entry here."""

from ..blocks.family import Family, nothing, nothing_and_unchanged, unchanged

DOUBLE_SINGLE = ("double_blocks", "single_blocks")
FINAL = ("final_layer",)
REFINERS = ("context_refiner", "noise_refiner", "ref_image_refiner", "siglip_refiner")
# Key of the transformer options of causal video: each call fills caches that the next frames read.
CAUSAL = "ar_state"
LONG_SKIPS = "its last blocks read the outputs of its first ones"

FAMILIES = (
    Family("Flux.1, Flux.2, LongCat-Image", ("Flux",), DOUBLE_SINGLE, FINAL, "img"),
    Family("Chroma", ("Chroma",), DOUBLE_SINGLE, FINAL, "img"),
    Family("Chroma Radiance", ("ChromaRadiance",), DOUBLE_SINGLE, (), "img"),
    Family("SD3", ("OpenAISignatureMMDITWrapper",), ("joint_blocks",), FINAL, 1),
    Family("AuraFlow", ("MMDiT",), ("double_layers", "single_layers"), ("final_linear",), 1),
    Family(
        "HunyuanVideo, HunyuanImage",
        ("HunyuanVideo",),
        DOUBLE_SINGLE,
        FINAL,
        "img",
        refiners=("txt_in.individual_token_refiner.blocks",),
    ),
    Family("Hunyuan3D 2", ("Hunyuan3Dv2",), DOUBLE_SINGLE, FINAL, "img"),
    Family("Hunyuan3D 2.1", ("HunYuanDiTPlain",), ("blocks",), FINAL, no_last_block=LONG_SKIPS),
    Family("HunyuanDiT", ("HunYuanDiT",), ("blocks",), FINAL, no_last_block=LONG_SKIPS),
    Family(
        "Wan 2.1, 2.2",
        (
            "WanModel",
            "CameraWanModel",
            "HumoWanModel",
            "SCAILWanModel",
            "SCAIL2WanModel",
            "CausalWanModel",
        ),
        ("blocks",),
        ("head",),
        never_with=CAUSAL,
    ),
    Family(
        "Wan VACE",
        ("VaceWanModel",),
        ("blocks",),
        ("head",),
        between={"vace_blocks": nothing_and_unchanged},
    ),
    Family(
        "Wan S2V", ("WanModel_S2V",), ("blocks",), ("head",), between={"audio_injector": unchanged}
    ),
    Family(
        "Wan Animate",
        ("AnimateWanModel",),
        ("blocks",),
        ("head",),
        between={"face_adapter.fuser_blocks": nothing},
    ),
    Family(
        "WanDancer",
        ("WanDancerModel",),
        ("blocks",),
        ("head", "head_global"),
        between={"music_injector": unchanged},
    ),
    Family(
        "Qwen-Image",
        ("QwenImageTransformer2DModel",),
        ("transformer_blocks",),
        ("norm_out",),
        "hidden_states",
        "proj_out",
    ),
    Family(
        "Mage-Flow",
        ("MageFlowTransformer2DModel",),
        ("transformer_blocks",),
        ("norm_out",),
        "hidden_states",
        "proj_out",
    ),
    Family(
        "Lens",
        ("LensTransformer2DModel",),
        ("transformer_blocks",),
        ("norm_out",),
        "hidden_states",
        "proj_out",
    ),
    Family(
        "JoyImage",
        ("JoyImageTransformer3DModel",),
        ("double_blocks",),
        ("norm_out",),
        "hidden_states",
        "proj_out",
    ),
    Family("Lumina 2, Z-Image", ("NextDiT",), ("layers",), FINAL, refiners=REFINERS),
    Family("Z-Image pixel space", ("NextDiTPixelSpace",), ("layers",), (), refiners=REFINERS),
    Family(
        "HiDream-I1",
        ("HiDreamImageTransformer2DModel",),
        ("double_stream_blocks", "single_stream_blocks"),
        FINAL,
        "image_tokens",
    ),
    Family(
        "HiDream-O1",
        ("HiDreamO1Transformer",),
        ("language_model.layers",),
        ("final_layer2",),  # before it the sequence is longer on the call that fills the cache
        "x",
        state=("_kv_cache_entries",),
    ),
    Family("LTX-Video", ("LTXVModel",), ("transformer_blocks",), ("_process_output",)),
    Family("LTX-2 audio and video", ("LTXAVModel",), ("transformer_blocks",), ("_process_output",)),
    Family("Cosmos 1", ("GeneralDIT",), ("blocks",), ("decoder_head",), batch=3),
    Family("Cosmos Predict2, Anima", ("MiniTrainDIT", "Anima"), ("blocks",), FINAL),
    Family("PixArt Alpha, Sigma", ("PixArtMS",), ("blocks",), FINAL),
    Family("Mochi", ("AsymmDiTJoint",), ("blocks",), FINAL),
    Family(
        "ACE-Step 1",
        ("ACEStepTransformer2DModel",),
        ("transformer_blocks",),
        FINAL,
        "hidden_states",
    ),
    Family(
        "ACE-Step 1.5",
        ("AceStepConditionGenerationModel",),
        ("decoder.layers",),
        ("decoder.norm_out",),
        "hidden_states",
        coupled="its condition encoder mixes the rows of a call",
    ),
    Family(
        "Stable Audio",
        ("AudioDiffusionTransformer",),
        ("transformer.layers",),
        ("transformer.project_out",),
    ),
    Family(
        "OmniGen2", ("OmniGen2Transformer2DModel",), ("layers",), ("norm_out",), refiners=REFINERS
    ),
    Family(
        "Boogu",
        ("BooguTransformer2DModel",),
        ("double_stream_layers", "single_stream_layers"),
        ("norm_out",),
        refiners=REFINERS,
    ),
    Family("Kandinsky 5", ("Kandinsky5",), ("visual_transformer_blocks",), ("out_layer",)),
    Family(
        "CogVideoX", ("CogVideoXTransformer3DModel",), ("blocks",), ("norm_final",), "hidden_states"
    ),
    Family(
        "Krea 2",
        ("SingleStreamDiT",),
        ("blocks",),
        ("last",),
        refiners=("txtfusion.layerwise_blocks", "txtfusion.refiner_blocks"),
    ),
    Family("Ideogram 4", ("Ideogram4Transformer2DModel",), ("layers",), FINAL),
    Family("ERNIE-Image", ("ErnieImageModel",), ("layers",), ("final_norm",), after="final_linear"),
    Family("PixelDiT, PiD", ("PixDiT_T2I", "PidNet"), ("patch_blocks",), ()),
    Family(
        "TripoSplat",
        ("LatentSeqMMFlowModel",),
        ("blocks",),
        (),
        no_last_block="its blocks' positions are computed from the stream itself",
    ),
    Family("MiniMax H3", ("MiniMaxH3Model",), ("blocks",), FINAL, batch=None),
)

BY_CLASS = {model: family for family in FAMILIES for model in family.models}

REFUSED = {
    "UNetModel": "it is a U-Net, whose last blocks read the outputs of its first ones",
    "StageB": "Stable Cascade is a U-Net",
    "StageC": "Stable Cascade is a U-Net",
    "NaDiT": "SeedVR2 samples in one step, so there is nothing to forecast",
}
