"""SpeCa for ComfyUI: speculative feature caching for diffusion transformers. See README.md."""

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI. The nodes are imported here, so that the pack itself can be imported without ComfyUI."""
    from .nodes import SpeCaExtension

    return SpeCaExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
