"""The nodes. One file each; the list is what ComfyUI loads."""

from comfy_api.latest import ComfyExtension, io

from .accelerate import SpeCaAccelerate
from .report import SpeCaReport


class SpeCaExtension(ComfyExtension):
    """Everything this pack adds to ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes, in the order of the menu."""
        return [SpeCaAccelerate, SpeCaReport]
