"""What a bug report says of the machine, and of the model's place on it."""

from typing import Any

import comfy.memory_management
import comfy.model_management
from comfy.patcher_extension import WrappersMP

from .compat import memory_compiler


def machine_of(patcher: Any) -> dict[str, str]:
    """By what it is called; `patcher` is a ComfyUI ModelPatcher. Nothing private is in it."""
    device = patcher.load_device
    options = patcher.model_options.get("transformer_options", {})
    compiled = options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {}).get("torch.compile")
    dynamic = getattr(comfy.memory_management, "aimdo_enabled", False)
    return {
        "device": comfy.model_management.get_torch_device_name(device),
        "weights": f"{patcher.model_dtype()}, {patcher.model_size() / 2**20:.0f} MB",
        "memory": "dynamic" if dynamic else comfy.model_management.vram_state.name.lower(),
        "torch.compile": "on" if compiled else "off",
        "memory compiler": memory_compiler(),
    }


def free_memory(patcher: Any) -> str:
    """Of the model's device, now."""
    free = comfy.model_management.get_free_memory(patcher.load_device)
    return f"{free / 2**20:.0f} MB"
