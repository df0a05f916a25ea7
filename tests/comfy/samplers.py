"""What checked drafts do under each of ComfyUI's samplers, on the trained tiny Flux.

`COMFYUI_PATH=... python tests/comfy/samplers.py` measures all of them (some minutes) and prints the
table of docs/samplers.md.
"""

import conftest  # isort: skip # noqa: F401 - puts ComfyUI on the path and loads the pack

from dataclasses import dataclass
from statistics import mean

import comfy.samplers
import torch
from models import checked, decoder, psnr, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find

STEPS = 28
PROMISE = 20.0  # dB of the worst image to the plain run with the same noise, under every sampler


@dataclass(frozen=True)
class Measured:
    """One sampler: calls, shares of the evaluations, dB of each image; `fewer` is a plain run with
    as many evaluations."""

    sampler: str
    calls: int
    drafted: float
    rejected: float
    psnr: list[float]
    fewer: list[float]
    finite: bool


def settings(sampler, steps=STEPS, batch=2):
    """CFG++ samplers take a guidance of their own scale."""
    return {
        "sampler": sampler,
        "steps": steps,
        "batch": batch,
        "cfg": 1.5 if sampler.endswith("cfg_pp") else 3.0,
    }


def measure(flux, decode, sampler, batch=2, compare=False):
    """Plain and accelerated with the same noise; also plain with fewer steps, to compare."""
    plain = sample_flux(flux, **settings(sampler, batch=batch))
    latent = sample_flux(accelerate(flux, checked()), **settings(sampler, batch=batch))
    report = find(latent)
    rows = report.rows or 1  # CFG++ is served by the model alone: there is no call
    drafted = report.count("accepted") / rows
    picture, fewer = decode(plain), []
    if compare and drafted:
        steps = max(2, round(STEPS * (1 - drafted)))
        fewer = psnr(decode(sample_flux(flux, **settings(sampler, steps, batch))), picture)
    quality = [
        100.0 if torch.equal(a, b) else db
        for a, b, db in zip(latent, plain, psnr(decode(latent), picture), strict=True)
    ]
    finite = bool(torch.isfinite(latent).all())
    return Measured(
        sampler, len(report.calls), drafted, report.count("rejected") / rows, quality, fewer, finite
    )


HEAD = """| sampler | accepted | SpeCa | fewer steps |
|---|---|---|---|
"""


def page(batch=2):
    """The table of docs/samplers.md."""
    flux, decode, rows, plain = trained_flux(), decoder(), [], []
    for sampler in comfy.samplers.KSampler.SAMPLERS:
        made = measure(flux, decode, sampler, batch, compare=True)
        if not made.drafted:
            plain.append(sampler)
            continue
        quality = [f"{mean(values):.1f}/{min(values):.1f}" for values in (made.psnr, made.fewer)]
        rows.append(f"| {sampler} | {made.drafted:.0%} | {' | '.join(quality)} |")
    return f"{HEAD}{chr(10).join(rows)}\n\nThe plain picture, bit for bit: {', '.join(plain)}."


if __name__ == "__main__":
    print(page())  # noqa: T201 - this is the generator of docs/samplers.md
