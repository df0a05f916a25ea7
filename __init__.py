"""SpeCa for ComfyUI: speculative feature caching for diffusion transformers. See README.md."""

import re
from typing import Any

OLDEST_COMFYUI = "0.16.3"  # the oldest that the tests ran on; also in pyproject.toml
WEB_DIRECTORY = "./web"


def refuse_older_comfyui() -> None:
    """Say at once what would fail somewhere inside. ComfyUI logs it, and goes on without the pack.

    Raises:
        ImportError: this ComfyUI is older than the supported ones.
    """
    try:
        from comfyui_version import __version__ as found
    except ImportError:
        return  # not in ComfyUI: a test, a tool

    def numbers(version: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", version)[:3]]

    if numbers(found) < numbers(OLDEST_COMFYUI):
        raise ImportError(
            f"SpeCa: this is ComfyUI {found}; expected {OLDEST_COMFYUI} or later. "
            "Update ComfyUI, or remove this pack."
        )


refuse_older_comfyui()


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI. The nodes are imported here: the pack itself needs no ComfyUI."""
    from .nodes.extension import SpeCaExtension

    return SpeCaExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
