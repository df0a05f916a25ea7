"""What differs between the supported versions of ComfyUI, and nothing else. The range stands in
pyproject.toml."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import comfy.cli_args
import comfy.model_management
import torch

try:
    import comfy.model_prefetch as model_prefetch
except ImportError:  # before ComfyUI 0.26
    model_prefetch = None

COMPILER_OFF = "disable_comfy_compiler"  # of ComfyUI's arguments, since 0.34


def intermediate_dtype(latent: torch.Tensor) -> torch.dtype:
    """The dtype in which samplers hand `latent` to the next node: before ComfyUI 0.18 always its
    own."""
    chosen = getattr(comfy.model_management, "intermediate_dtype", None)
    dtype: torch.dtype = chosen() if chosen else latent.dtype
    return dtype


def is_oom(error: Exception) -> bool:
    """Whether memory ran out. Since ComfyUI 0.18 also as the device's own error."""
    known = getattr(comfy.model_management, "is_oom", None)
    return bool(known(error)) if known else isinstance(error, comfy.model_management.OOM_EXCEPTION)


def memory_compiler() -> str:
    """What a bug report says of ComfyUI's memory compiler."""
    off = getattr(comfy.cli_args.args, COMPILER_OFF, None)
    return "none" if off is None else "off" if off else "on"


@contextmanager
def memory_compiler_off() -> Iterator[None]:
    """While this lasts ComfyUI's memory compiler lets the blocks be. It replays what their first
    run allocated, and expects it to be freed again: drafts leave blocks out, and anchors stay. It
    asks its switch at each call of the model."""
    before = getattr(comfy.cli_args.args, COMPILER_OFF, None)
    if before is None:
        yield
        return
    setattr(comfy.cli_args.args, COMPILER_OFF, True)
    try:
        yield
    finally:
        setattr(comfy.cli_args.args, COMPILER_OFF, before)


def unrecorded() -> AbstractContextManager[Any]:
    """What is allocated in here will be kept: no part of a record that somebody else has begun
    around the run. Not to be nested."""
    pause = getattr(model_prefetch, "pause_malloc_graph", None)
    return pause() if pause else nullcontext()
