"""What ComfyUI loads: the list of the nodes, and the routes."""

from comfy_api.latest import ComfyExtension, io

from .accelerate import SpeCaAccelerate
from .calibrate import SpeCaCalibrate
from .compare import SpeCaCompare
from .report import SpeCaReport
from .runtime.page import routes


class SpeCaExtension(ComfyExtension):
    """Everything this pack adds to ComfyUI."""

    async def on_load(self) -> None:
        """What the page asks besides ComfyUI's own routes."""
        routes.serve()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes, in the order of the menu."""
        return [SpeCaAccelerate, SpeCaCalibrate, SpeCaReport, SpeCaCompare]
