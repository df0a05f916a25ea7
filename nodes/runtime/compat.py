"""What differs between the supported versions of ComfyUI, and nothing else. The range stands in
pyproject.toml."""

import comfy.model_management
import torch


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
