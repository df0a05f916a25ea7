"""The rows of a ComfyUI call: who they are, and how to evaluate some of them alone."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP


@dataclass(frozen=True)
class Rows:
    """Identity of each row of a call: its lane, the image it belongs to, the index of its
    conditioning."""

    lanes: list[Hashable]
    images: list[int]
    branches: list[int]


def rows_of(x: torch.Tensor, transformer_options: Mapping[str, Any]) -> Rows:
    """Name the rows of a call.

    ComfyUI concatenates conditionings: with n of them, chunk i holds rows i*b .. (i+1)*b - 1, one
    per image. A conditioning's uuid alone does not identify a chunk: extra passes (SLG, PAG) reuse
    it with other patches, context windows with other frames; both are part of the lane's key.
    Regional prompts repeat all of it: the session tells those apart by their order.

    Args:
        x: the call's latent, [rows, ...].
        transformer_options: of the call; `cond_or_uncond` and `uuids` name the chunks, as far as
            they are there.
    """
    window = transformer_options.get("context_window")
    indices = tuple(window.index_list) if window is not None else None
    common = indices, pass_of(transformer_options), tuple(x.shape[1:])
    branches = transformer_options.get("cond_or_uncond") or [0]
    uuids = transformer_options.get("uuids") or ()
    # Who evaluates prompt by prompt may name the branch alone: that is who it is then.
    chunks = [*zip(branches, uuids if len(uuids) == len(branches) else branches, strict=True)]
    size = x.shape[0] // len(chunks)
    rows = Rows([], [], [])
    for chunk in chunks:
        for image in range(size):
            rows.lanes.append((common, chunk, image))
            rows.images.append(image)
            rows.branches.append(chunk[0])
    return rows


def pass_of(transformer_options: Mapping[str, Any]) -> frozenset[tuple[str, str, int]]:
    """Which pass a call is: extra ones (SLG, PAG) have patches of their own."""
    replaced = transformer_options.get("patches_replace", {})
    return frozenset(
        (str(name), str(place), id(patch))
        for name, patches in replaced.items()
        for place, patch in patches.items()
    )


def are_looked_at(transformer_options: Mapping[str, Any]) -> bool:
    """Whether anything foreign in the model may look at the rows of a call, as a patch does that
    holds one reference per image: no row may be evaluated without the others then."""
    wrappers = transformer_options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    patches = (transformer_options.get(name, {}) for name in ("patches", "patches_replace"))
    return any(any(found.values()) for found in (wrappers, *patches))


def take(value: Any, rows: Sequence[int], total: int) -> Any:
    """`value` for some rows only: every tensor whose first dimension is the batch loses the others,
    in lists and dicts too.

    Lists and dicts are new ones also if all rows are taken: models empty the lists of control
    residuals that they are given.
    """
    if torch.is_tensor(value):
        if len(rows) == total or value.ndim == 0 or value.shape[0] != total:
            return value
        # A list as index would be copied to the device, and waited for.
        return torch.stack([value[row] for row in rows])
    if isinstance(value, torch.Size):
        return value  # of a nested latent; its rows are counted by the latent itself
    if isinstance(value, list | tuple):
        # A named tuple is not made from one sequence.
        make = getattr(type(value), "_make", type(value))
        return make(take(item, rows, total) for item in value)
    if isinstance(value, dict):
        return {key: take(item, rows, total) for key, item in value.items()}
    return value
