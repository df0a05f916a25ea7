"""What a profile belongs to: a model with all its patches, a guider, and its guidance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .guidance import is_foreign
from .windows import PLACES

SAMPLED = 16  # weights of which some numbers are read
NUMBERS = 8  # of each


@dataclass(frozen=True)
class Key:
    """What a profile belongs to.

    Attributes:
        model: fingerprint of the weights and of everything that is patched into them.
        about: the name of the model's class, for people.
        variant: the guider and whatever else takes part in a prediction.
        guidance: CFG scale.
        flow: the model is a flow model.
    """

    model: str
    about: str
    variant: str
    guidance: float
    flow: bool

    @property
    def name(self) -> str:
        """Of the profile's file."""
        return f"{self.model}-{self.variant}"


def key_of(guider: Any, flow: bool) -> Key | None:
    """The key of a run; None if its guidance is not plain, or not one number."""
    if is_foreign(guider):
        return None
    patcher, conds = guider.model_patcher, getattr(guider, "conds", None) or {}
    guidance = getattr(guider, "cfg", None)
    if not isinstance(guidance, (int, float)):
        return None
    transformer = guider.model_options.get("transformer_options", {})
    wrappers = [*names_in(transformer.get("wrappers", {}))]
    distilled = [cond.get("guidance") for prompts in conds.values() for cond in prompts]
    told = (
        type(guider).__name__,
        {name: len(prompts) for name, prompts in conds.items()},
        distilled,
        [*names_in({place: transformer[place] for place in PLACES if place in transformer})],
        wrappers,
    )
    diffusion = patcher.model.diffusion_model
    return Key(
        fingerprint(patcher),
        type(diffusion).__name__,
        hashlib.sha256(repr(told).encode()).hexdigest()[:16],
        float(guidance) if "negative" in conds else 1.0,
        flow,
    )


def names_in(value: Any) -> Iterator[str]:
    """The names of the functions in nested containers, SpeCa's own left out."""
    if isinstance(value, Mapping):
        for key, inside in value.items():
            for name in names_in(inside):
                yield f"{key}:{name}"
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from names_in(inside)
    else:
        own = getattr(value, "func", value)  # of a partial
        name = getattr(own, "__qualname__", type(own).__qualname__)
        module = str(getattr(own, "__module__", ""))
        if __name__.rpartition(".")[0] not in module:
            yield name


def fingerprint(patcher: Any) -> str:
    """A hash of a model: the shapes of its weights, some of their numbers, and its patches. Other
    weights, another quantisation and another LoRA are other models."""
    told = hashlib.sha256()
    # A LoRA of another graph may still be in the weights; ComfyUI keeps what they were before.
    # Hooks come on top of it.
    kept = {**getattr(patcher, "hook_backup", {}), **getattr(patcher, "backup", {})}
    weights = [
        (name, original(kept.get(f"diffusion_model.{name}"), weight))
        for name, weight in sorted(patcher.model.diffusion_model.named_parameters())
    ]
    for name, weight in weights:
        told.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
    patches = getattr(patcher, "patches", {})
    own = [(n, w) for n, w in weights if f"diffusion_model.{n}" not in patches and w.numel()]
    for name, weight in spread(own):
        told.update(f"{name}{some(weight)}".encode())
    for name, changes in sorted((str(k), v) for k, v in patches.items()):
        told.update(f"{name}{[change[0] for change in changes]}".encode())
    for _, changes in spread(sorted((str(k), v) for k, v in patches.items())):
        for change in changes:
            for tensor in tensors_in(change[1]):
                told.update(str(some(tensor)).encode())
    return told.hexdigest()[:24]


def original(kept: Any, weight: torch.Tensor) -> torch.Tensor:
    """A weight as it was before it was patched: a backup of ComfyUI's holds it, by itself or
    with more (the device that it goes back to, how it was replaced). None: it is not
    patched."""
    if isinstance(kept, torch.Tensor):
        return kept
    before = getattr(kept, "weight", kept[0] if isinstance(kept, tuple) else None)
    return before if isinstance(before, torch.Tensor) else weight


def spread(items: list[Any]) -> list[Any]:
    """At most `SAMPLED` of the items, evenly spread."""
    step = max(1, -(-len(items) // SAMPLED))
    return items[::step]


def some(tensor: torch.Tensor) -> list[float]:
    """A few numbers of a tensor, from its middle."""
    if tensor.is_meta:
        return []
    flat = tensor.detach().reshape(-1)
    middle = len(flat) // 2
    return [float(f"{n:.4g}") for n in flat[middle : middle + NUMBERS].float().tolist()]


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a patch, whatever its kind."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from tensors_in(inside)
    elif hasattr(value, "weights"):
        yield from tensors_in(value.weights)
