"""SpeCa Calibrate: tries plans on the user's own model, and keeps what was best."""

from collections.abc import Sequence
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import numpy as np
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw, ImageFont

from ..speca_core.errors import SpecaError
from .runtime.calibration import Calibration, Point
from .runtime.page.timeline import INK, PAPER, as_image
from .runtime.run import KEY
from .runtime.trial_runs import Recipe

SIZE, MARGIN = (640, 400), 60
LINES = ("calibrated", "#009E73"), ("before", "#56B4E9"), ("fewer", "#E69F00")
NAMES = {"calibrated": "SpeCa, calibrated", "before": "SpeCa before", "fewer": "fewer steps"}


class SpeCaCalibrate(io.ComfyNode):
    """A model and a sampler's inputs in; the curve of speed against quality out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs of a KSampler, two outputs."""
        return io.Schema(
            node_id="SpeCaCalibrate",
            display_name="SpeCa Calibrate",
            category="SpeCa",
            description="Tries SpeCa on your own model and keeps what was best: faster and closer "
            "to the plain picture from then on, and a threshold that is met. Run it once for each "
            "model and CFG; it takes as long as about twelve plain pictures for each of its own. "
            "An interrupted calibration goes on where it was.",
            search_aliases=["speca calibrate", "auto tune"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="As it goes into the SpeCa node, LoRAs included"),
                io.Conditioning.Input("positive", tooltip="A prompt like those that you use"),
                io.Conditioning.Input("negative", tooltip="Not used at CFG 1"),
                io.Latent.Input("latent_image", tooltip="Its first image gives the size"),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    tooltip="Of the first picture; the others follow",
                ),
                io.Int.Input("pictures", default=2, min=1, max=8, tooltip="More judge better"),
                io.Int.Input("steps", default=20, min=4, max=200, tooltip="As in your sampler"),
                io.Float.Input(
                    "cfg", default=3.5, min=0.0, max=100.0, step=0.1, tooltip="As in your sampler"
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.SAMPLER_NAMES,
                    tooltip="One that adds no noise",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.SCHEDULER_NAMES,
                    tooltip="As in your sampler",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="curve", tooltip="Speed against distance"),
                io.String.Output(display_name="text", tooltip="The curve in numbers"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        seed: int,
        pictures: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
    ) -> io.NodeOutput:
        """Calibrate, and draw what was found."""
        if model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
            raise SpecaError(
                "SpeCa Calibrate: found a model that has gone through SpeCa; expected the model "
                "before the SpeCa node. Connect that one."
            )
        latent = comfy.sample.fix_empty_latent_channels(model, latent_image["samples"])[:1]
        recipe = Recipe(model, positive, negative, latent, steps, cfg, sampler_name, scheduler)
        bar = comfy.utils.ProgressBar(1)
        seeds = [(seed + i) % 2**64 for i in range(pictures)]
        points = Calibration(recipe, seeds, tell=bar.update_absolute).run()
        picture = as_image(draw(points))[None]
        text = describe(points)
        shown = ui.PreviewImage(picture, cls=cls).as_dict() | {"text": (text,)}
        return io.NodeOutput(picture, text, ui=shown)


def describe(points: Sequence[Point]) -> str:
    """One line for each speed, the slowest first."""
    lines = ["Distance of the result to the plain one, at each speed (threshold means the same):"]
    for point in points:
        lines.append(
            f"{1 / point.share:.1f}x: {point.calibrated:.3f} (before {point.before:.3f}, "
            f"fewer steps {point.fewer:.3f})"
        )
    return "\n".join(lines)


def draw(points: Sequence[Point]) -> Image.Image:
    """Speed to the right, distance upwards on a logarithmic scale."""
    paper = Image.new("RGB", SIZE, PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(13)
    speeds = [1 / point.share for point in points]
    offs = [np.log10(getattr(point, name)) for point in points for name, _ in LINES]
    low, high = np.floor(min(offs) * 2) / 2, np.ceil(max(offs) * 2) / 2

    def at(speed: float, off: float) -> tuple[float, float]:
        across = (speed - min(speeds)) / max(max(speeds) - min(speeds), 1e-9)
        up = (off - low) / max(high - low, 1e-9)
        width, height = SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN
        return MARGIN + across * width, SIZE[1] - MARGIN - up * height

    for tick in np.arange(low, high + 0.1, 0.5):
        start, end = at(min(speeds), tick), at(max(speeds), tick)
        pen.line([start, end], "#44444C")
        pen.text((start[0] - 6, start[1]), f"{10**tick:.2g}", INK, font, anchor="rm")
    for speed in speeds:
        x, y = at(speed, low)
        pen.text((x, y + 8), f"{speed:.1f}x", INK, font, anchor="mt")
    for i, (name, colour) in enumerate(LINES):
        path = [at(1 / point.share, np.log10(getattr(point, name))) for point in points]
        pen.line(path, colour, 3)
        for x, y in path:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        pen.text((MARGIN + i * 170, 16), NAMES[name], colour, font)
    pen.text((MARGIN, 36), "distance to the plain result; lower is better", INK, font)
    pen.text((SIZE[0] - MARGIN, SIZE[1] - 8), "speed, in evaluations", INK, font, anchor="rb")
    return paper
