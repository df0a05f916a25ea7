"""SpeCa Compare: the same picture with and without SpeCa, side by side and in numbers."""

import math
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw, ImageFont

from ..speca_core.errors import SpecaError
from ..speca_core.report import RunReport
from .runtime.page.report_store import find
from .runtime.page.timeline import as_image

GAIN = 10  # amplification of the difference
PAPER, INK = "#1F1F23", "#E6E6E6"
MOST_SHOWN = 8  # pictures; those of a whole video would take gigabytes


class SpeCaCompare(io.ComfyNode):
    """Two LATENTs in; a picture, the PSNR and the seconds out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Three inputs, three outputs."""
        return io.Schema(
            node_id="SpeCaCompare",
            display_name="SpeCa Compare",
            category="SpeCa",
            description="Compares an accelerated sampling with the plain one: picture, amplified "
            "difference, PSNR, and the measured speed-up. For the plain one, use a second sampler "
            "after a SpeCa node with threshold 0: that is the plain model, bit for bit, and "
            "its seconds are known.",
            search_aliases=["speca compare", "psnr", "difference", "quality", "benchmark"],
            is_output_node=True,
            inputs=[
                io.Latent.Input(
                    "plain",
                    tooltip="From the plain model: same seed, prompt and sampler, threshold 0",
                ),
                io.Latent.Input(
                    "accelerated", tooltip="From the accelerated model; same shape as plain"
                ),
                io.Vae.Input("vae", tooltip="Decodes both"),
            ],
            outputs=[
                io.Image.Output(
                    display_name="comparison",
                    tooltip=f"plain | accelerated | difference times {GAIN}, per image or frame; "
                    f"the worst, if there are more than {MOST_SHOWN}",
                ),
                io.Float.Output(
                    display_name="psnr",
                    tooltip="Peak signal-to-noise ratio of the 8-bit pictures, in dB, of the worst "
                    "image or frame. inf: equal",
                ),
                io.String.Output(display_name="text", tooltip="The numbers in words"),
            ],
        )

    @classmethod
    def execute(cls, plain: dict[str, Any], accelerated: dict[str, Any], vae: Any) -> io.NodeOutput:
        """Decode both, compare picture by picture, and look the two runs up by their latents."""
        latents = plain["samples"], accelerated["samples"]
        if latents[0].shape != latents[1].shape:
            raise SpecaError(
                f"SpeCa Compare: plain has shape {tuple(latents[0].shape)} and accelerated "
                f"{tuple(latents[1].shape)}; expected the same. Give both samplers the same latent."
            )
        before, after = (pictures(vae.decode(latent)) for latent in latents)
        values = [psnr(a, b) for a, b in zip(before, after, strict=True)]
        worst = min(values)
        text = describe(values, find(latents[0], plain=True), find(latents[1], plain=False))
        # The worst ones, in their order.
        shown = sorted(sorted(range(len(values)), key=values.__getitem__)[:MOST_SHOWN])
        sheets = torch.stack([sheet(before[i], after[i], values[i]) for i in shown])
        return io.NodeOutput(
            sheets, worst, text, ui=ui.PreviewImage(sheets, cls=cls).as_dict() | {"text": (text,)}
        )


def pictures(decoded: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What a VAE decodes, [images, (frames,) height, width, 3] 0..1, as 8-bit pictures [images or
    frames, height, width, 3]. One by one: temporaries of a whole video would be as large as it."""
    frames = decoded.reshape(-1, *decoded.shape[-3:])[..., :3]
    made = torch.empty(frames.shape, dtype=torch.uint8)
    for picture, frame in zip(made, frames, strict=True):
        picture.copy_((frame.float().clamp(0, 1) * 255).round())
    return made.numpy()


def psnr(truth: np.ndarray[Any, Any], image: np.ndarray[Any, Any]) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, dB; `inf` if they are equal."""
    error = float(np.mean((truth.astype(np.float64) - image) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def sheet(
    plain: np.ndarray[Any, Any], accelerated: np.ndarray[Any, Any], value: float
) -> torch.Tensor:
    """plain | accelerated | difference, labelled: [height, width, 3], 0..1."""
    height, width = plain.shape[:2]
    size = max(11, width // 22)
    bar = round(size * 1.9)
    difference = np.minimum(np.abs(plain.astype(np.int16) - accelerated) * GAIN, 255).astype(
        np.uint8
    )
    gap = max(2, width // 100)
    paper = Image.new("RGB", (3 * width + 2 * gap, height + bar), PAPER)
    draw = ImageDraw.Draw(paper)
    labels = ("plain", f"SpeCa, {decibel(value)}", f"difference x {GAIN}")
    for i, (part, label) in enumerate(zip((plain, accelerated, difference), labels, strict=True)):
        paper.paste(Image.fromarray(part), (i * (width + gap), bar))
        draw.text(
            (i * (width + gap) + size // 3, bar // 2),
            label,
            INK,
            ImageFont.load_default(size),
            anchor="lm",
        )
    return as_image(paper)


def decibel(value: float) -> str:
    """A PSNR for people."""
    return f"{value:.1f} dB" if math.isfinite(value) else "equal"


def describe(values: list[float], plain: RunReport | None, accelerated: RunReport | None) -> str:
    """The comparison in a few lines: PSNR, seconds of both, and the speed-up if both runs are
    known."""
    quality = f"PSNR {decibel(min(values))}"
    if len(values) > 1:
        middle = (
            decibel(sum(values) / len(values))
            if all(map(math.isfinite, values))
            else f"{sum(map(math.isinf, values))} equal"
        )
        number = f"number {values.index(min(values)) + 1} of {len(values)}"
        quality = f"PSNR worst {decibel(min(values))} ({number}), mean {middle}"
    lines = [quality]
    for name, report in (("plain", plain), ("accelerated", accelerated)):
        unknown = "seconds unknown, no SpeCa run made this latent"
        lines.append(f"{name}: {report.summary if report else unknown}")
    if plain and accelerated and accelerated.seconds:
        lines.append(f"measured speed-up: {plain.seconds / accelerated.seconds:.2f} x")
        if plain.count("accepted"):
            lines.append(
                "The plain run was accelerated as well: set its threshold to 0 to compare with the "
                "plain model."
            )
    return "\n".join(lines)
