"""Model families as data: where a diffusion model keeps its blocks. A new family is one entry in the table.

`python -m speca_core.bridge.families` prints docs/families.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config import SpecaConfig
from ..errors import ConfigError, UnsupportedModel


@dataclass(frozen=True)
class Family:
    """What the block proxy has to know about a model; everything else is learnt from the data flow of the first full pass.

    Attributes:
        name: for people and for the report.
        models: class names of `model.diffusion_model`.
        stacks: attribute paths of the block lists, in execution order.
        heads: the modules or methods that consume the residual stream after the last block; the first argument is the exit tap. Several
            if the model chooses one of them for each call. None if nothing light does: then the last block's first output is the tap.
        image: where the first block's call holds the image stream: keyword, or index of the positional argument.
        after: what turns the head's result into the model's output; errors are measured there. Empty if the head's result is that.
        batch: the dimension of the blocks' streams that holds the rows; None if a call has one row and its streams no such dimension.
        refiners: paths of block lists that run before the first stack and make nothing but its streams: a draft leaves them out. A variant
            of the model may lack some.
        between: paths of modules that the model calls between blocks, and what they give on a draft, where no block has run.
        state: paths of attributes that a pass writes and that must not keep what a draft has written.
        no_last_block: why the last block cannot be checked on its forecast input; empty if it can.
        joint: why the rows of a call cannot be evaluated apart, so that they are drafted or computed together; empty if they can.
        never_with: key of the transformer options; while it is set, calls go straight to the model and are not recorded.
        exit: without heads, which of the last block's outputs is the tap; None for all of them.
    """

    name: str
    models: tuple[str, ...]
    stacks: tuple[str, ...]
    heads: tuple[str, ...]
    image: str | int = 0
    after: str = ""
    batch: int | None = 0
    refiners: tuple[str, ...] = ()
    between: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    no_last_block: str = ""
    joint: str = ""
    never_with: str = ""
    exit: int | None = 0


def unchanged(stream: Any, *_: Any, **__: Any) -> Any:
    """For a module that returns the stream with something added."""
    return stream


def nothing(*_: Any, **__: Any) -> float:
    """For a module that returns what is added to the stream."""
    return 0.0


def nothing_and_unchanged(own: Any, **_: Any) -> tuple[float, Any]:
    """For a module that returns what is added to the stream, and a stream of its own."""
    return 0.0, own


DOUBLE_SINGLE = ("double_blocks", "single_blocks")
FINAL = ("final_layer",)
REFINERS = ("context_refiner", "noise_refiner", "ref_image_refiner", "siglip_refiner")
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
        ("WanModel", "CameraWanModel", "HumoWanModel", "SCAILWanModel", "SCAIL2WanModel", "CausalWanModel"),
        ("blocks",),
        ("head",),
        never_with="ar_state",  # its blocks fill the caches that the next frames read
    ),
    Family("Wan VACE", ("VaceWanModel",), ("blocks",), ("head",), between={"vace_blocks": nothing_and_unchanged}),
    Family("Wan S2V", ("WanModel_S2V",), ("blocks",), ("head",), between={"audio_injector": unchanged}),
    Family("Wan Animate", ("AnimateWanModel",), ("blocks",), ("head",), between={"face_adapter.fuser_blocks": nothing}),
    Family("WanDancer", ("WanDancerModel",), ("blocks",), ("head", "head_global"), between={"music_injector": unchanged}),
    Family("Qwen-Image", ("QwenImageTransformer2DModel",), ("transformer_blocks",), ("norm_out",), "hidden_states", "proj_out"),
    Family("Mage-Flow", ("MageFlowTransformer2DModel",), ("transformer_blocks",), ("norm_out",), "hidden_states", "proj_out"),
    Family("Lens", ("LensTransformer2DModel",), ("transformer_blocks",), ("norm_out",), "hidden_states", "proj_out"),
    Family("JoyImage", ("JoyImageTransformer3DModel",), ("double_blocks",), ("norm_out",), "hidden_states", "proj_out"),
    Family("Lumina 2, Z-Image", ("NextDiT",), ("layers",), FINAL, refiners=REFINERS),
    Family("Z-Image pixel space", ("NextDiTPixelSpace",), ("layers",), (), refiners=REFINERS),
    Family("HiDream-I1", ("HiDreamImageTransformer2DModel",), ("double_stream_blocks", "single_stream_blocks"), FINAL, "image_tokens"),
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
    Family("ACE-Step 1", ("ACEStepTransformer2DModel",), ("transformer_blocks",), FINAL, "hidden_states"),
    Family(
        "ACE-Step 1.5",
        ("AceStepConditionGenerationModel",),
        ("decoder.layers",),
        ("decoder.norm_out",),
        "hidden_states",
        joint="its condition encoder mixes the rows of a call",
    ),
    Family("Stable Audio", ("AudioDiffusionTransformer",), ("transformer.layers",), ("transformer.project_out",)),
    Family("OmniGen2", ("OmniGen2Transformer2DModel",), ("layers",), ("norm_out",), refiners=REFINERS),
    Family("Boogu", ("BooguTransformer2DModel",), ("double_stream_layers", "single_stream_layers"), ("norm_out",), refiners=REFINERS),
    Family("Kandinsky 5", ("Kandinsky5",), ("visual_transformer_blocks",), ("out_layer",)),
    Family("CogVideoX", ("CogVideoXTransformer3DModel",), ("blocks",), ("norm_final",), "hidden_states"),
    Family("Krea 2", ("SingleStreamDiT",), ("blocks",), ("last",), refiners=("txtfusion.layerwise_blocks", "txtfusion.refiner_blocks")),
    Family("Ideogram 4", ("Ideogram4Transformer2DModel",), ("layers",), FINAL),
    Family("ERNIE-Image", ("ErnieImageModel",), ("layers",), ("final_norm",), after="final_linear"),
    Family("PixelDiT, PiD", ("PixDiT_T2I", "PidNet"), ("patch_blocks",), ()),
    Family(
        "TripoSplat", ("LatentSeqMMFlowModel",), ("blocks",), (), no_last_block="its blocks' positions are computed from the stream itself"
    ),
    Family("MiniMax H3", ("MiniMaxH3Model",), ("blocks",), FINAL, batch=None),
)

BY_CLASS = {model: family for family in FAMILIES for model in family.models}

REFUSED = {
    "UNetModel": "it is a U-Net, whose last blocks read the outputs of its first ones at every resolution",
    "StageB": "Stable Cascade is a U-Net",
    "StageC": "Stable Cascade is a U-Net",
    "NaDiT": "SeedVR2 samples in one step, so there is nothing to forecast",
}


def bare(diffusion_model: Any) -> Any:
    """The module itself, also under a whole-model torch.compile."""
    return getattr(diffusion_model, "_orig_mod", diffusion_model)


def family_of(diffusion_model: Any) -> Family:
    """The family of a loaded `diffusion_model`. One of a class that is in no table has no stacks yet: see `discovery`.

    Raises:
        UnsupportedModel: its class is known not to work, or is in no table and shows no blocks.
    """
    found = type(bare(diffusion_model)).__name__
    if found in REFUSED:
        raise UnsupportedModel(
            f"SpeCa cannot accelerate this model: its diffusion model is a {found}, and {REFUSED[found]}; expected a diffusion "
            "transformer. Set level to prediction, which works with every model."
        )
    if found in BY_CLASS:
        return BY_CLASS[found]
    from .discovery import prospect  # it makes families, and so needs this module

    return prospect(bare(diffusion_model))


def check(family: Family, config: SpecaConfig) -> None:
    """See that the settings go with the family.

    Raises:
        ConfigError: the verifier needs the last block, and this family's cannot be checked.
    """
    if family.no_last_block and config.verifier.runs == "last":
        raise ConfigError(
            f"SpeCa: the verifier is {config.verifier.name}, which computes the last block alone, and {family.name} does not allow that: "
            f"{family.no_last_block}. Choose another verifier, for example embedded or first_block."
        )


PAGE = """# Model families

Made by `python -m speca_core.bridge.families > docs/families.md` from the table in `speca_core/bridge/families.py`; a test keeps it so.
How to add one: [adding a model family](adding-a-model-family.md).

| family | class | blocks | head | verifiers | rows |
|---|---|---|---|---|---|
{families}

A class that is in no table is looked at when it is first called, and tried out before anything is drafted
([adding a model family](adding-a-model-family.md#without-an-entry)).

Refused, with the reason:

{refused}"""


def page() -> str:
    """The text of docs/families.md."""

    def code(names: tuple[str, ...]) -> str:
        return ", ".join(f"`{name}`" for name in names)

    families = []
    for family in FAMILIES:
        head = code(family.heads) or "none: the last block's output"
        verifiers = f"not `last_block`: {family.no_last_block}" if family.no_last_block else "all"
        rows = f"together: {family.joint}" if family.joint else "one per call" if family.batch is None else "each image apart"
        families.append("| " + " | ".join((family.name, code(family.models), code(family.stacks), head, verifiers, rows)) + " |")
    refused = [f"* `{name}`: {reason}" for name, reason in REFUSED.items()]
    return PAGE.format(families="\n".join(families), refused="\n".join(refused))


if __name__ == "__main__":
    print(page())  # noqa: T201 - this is the generator of docs/families.md
