"""Model families as data: where a diffusion model keeps its blocks. A new family is one entry in the table."""

from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedModel


@dataclass(frozen=True)
class Family:
    """What the block proxy has to know about a model; everything else is learnt from the data flow of the first full pass.

    Attributes:
        name: for people and for the report.
        models: class names of `model.diffusion_model`.
        stacks: attribute paths of the block lists, in execution order.
        head: the module that consumes the residual stream after the last block (its first argument is the exit tap).
        image: where the first block's call holds the image stream: keyword, or index of the positional argument.
    """

    name: str
    models: tuple[str, ...]
    stacks: tuple[str, ...]
    head: str
    image: str | int


FAMILIES = (
    Family("Flux", ("Flux",), ("double_blocks", "single_blocks"), "final_layer", "img"),
    Family("SD3", ("OpenAISignatureMMDITWrapper", "MMDiT"), ("joint_blocks",), "final_layer", 1),
    Family("Lumina 2 / Z-Image", ("NextDiT",), ("layers",), "final_layer", 0),
)

BY_CLASS = {model: family for family in FAMILIES for model in family.models}


def bare(diffusion_model: Any) -> Any:
    """The module itself, also under a whole-model torch.compile."""
    return getattr(diffusion_model, "_orig_mod", diffusion_model)


def family_of(diffusion_model: Any) -> Family:
    """The family of a loaded `diffusion_model`.

    Raises:
        UnsupportedModel: no family has this class.
    """
    found = type(bare(diffusion_model)).__name__
    if found not in BY_CLASS:
        known = ", ".join(f"{family.name} ({', '.join(family.models)})" for family in FAMILIES)
        raise UnsupportedModel(
            f"SpeCa cannot accelerate this model: its diffusion model is a {found}; expected a diffusion transformer of one of these "
            f"families: {known}. Remove or bypass SpeCa Accelerate for this model."
        )
    return BY_CLASS[found]
