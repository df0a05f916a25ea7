"""The family of a loaded model."""

from typing import Any

from ....speca_core.config import SpecaConfig
from ....speca_core.errors import ConfigError, UnsupportedModel
from ..blocks.family import Family, bare
from .discovery import candidate
from .table import BY_CLASS, REFUSED


def family_of(diffusion_model: Any) -> Family:
    """The family of a loaded `diffusion_model`. One of a class that is in no table has no stacks
    yet: `discovery.discover` finds them at the first call.

    Raises:
        UnsupportedModel: its class is known not to work, or is in no table and shows no blocks.
    """
    found = type(bare(diffusion_model)).__name__
    if found in REFUSED:
        raise UnsupportedModel(
            f"SpeCa cannot accelerate this model at level features: its diffusion model is a "
            f"{found}, and {REFUSED[found]}; expected a diffusion transformer. Set level to "
            "prediction, which works with every model."
        )
    return BY_CLASS.get(found) or candidate(bare(diffusion_model))


def check(family: Family, config: SpecaConfig) -> None:
    """See that the settings go with the family.

    Raises:
        ConfigError: the verifier needs the last block, and this family's cannot be checked.
    """
    if family.no_last_block and config.verifier.block == "last":
        raise ConfigError(
            f"SpeCa: the verifier is {config.verifier.name}, which computes the last block alone, "
            f"and {family.name} does not allow that: {family.no_last_block}; expected another one. "
            "Choose another verifier, for example embedded or first_block."
        )


def are_coupled(diffusion_model: Any) -> bool:
    """Whether the rows of a call must be evaluated together. Of a model that is in no table nobody
    knows: a batch may be frames."""
    try:
        return bool(family_of(diffusion_model).coupled)
    except UnsupportedModel:
        return True
