"""What the default settings do under each of ComfyUI's samplers, on the trained tiny Flux.

`COMFYUI_PATH=... python tests/comfy/samplers.py > docs/samplers.md` measures all of them (some
minutes) and writes the page.
"""

import conftest  # isort: skip # noqa: F401 - puts ComfyUI on the path and loads the pack

from dataclasses import dataclass
from statistics import mean

import comfy.samplers
import torch
from models import decoder, psnr, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core import SpecaConfig

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
    """Plain and accelerated with the same noise; and plain with fewer steps, if asked to compare."""
    plain = sample_flux(flux, **settings(sampler, batch=batch))
    latent = sample_flux(accelerate(flux, SpecaConfig()), **settings(sampler, batch=batch))
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


PAGE = """# Samplers

Made by `python tests/comfy/samplers.py > docs/samplers.md`: the default settings under every sampler of ComfyUI's, on the trained tiny
Flux, {steps} steps, scheduler simple, CFG 3 (CFG++ samplers: 1.5), {batch} images of one caption. PSNR is to the plain run with the
same noise; *equal* means bit for bit, because no draft was served. *Fewer steps* is the plain sampler with as many evaluations.
With fewer steps anchors lie further apart and fewer drafts pass: at 14 steps one in ten. It is a tiny model: read the table as a ranking.

| sampler | calls | drafted | rejected | PSNR mean | worst | fewer steps, mean | worst |
|---|---|---|---|---|---|---|---|
{rows}

* Samplers that follow one smooth path (euler, heun, dpm_2, exp_heun_2_x0, ...) gain most. Hindsight repairs drafts under
  euler, ddim, heun, dpm_2, exp_heun_2_x0, dpmpp_2m, res_multistep, uni_pc, deis, ipndm, lms, gradient_estimation.
* Samplers that add fresh noise at every step (ancestral, SDE, lcm, er_sde, seeds) leave the path at every step. That is noticed before
  anything is drafted: the picture stays plain, and nothing is saved; SpeCa is of no use there.
* CFG++ samplers follow the model's answer to one prompt, which a forecast of the guided prediction does not have: the model alone
  serves them, unless `level` is `features`.
* The promise that the tests keep: the worst image is not below {promise:g} dB.
"""


def page(batch=2):
    """The text of docs/samplers.md."""
    flux, decode, rows = trained_flux(), decoder(), []
    for sampler in comfy.samplers.KSampler.SAMPLERS:
        made = measure(flux, decode, sampler, batch, compare=True)
        equal = not made.drafted
        cells = [sampler, made.calls, f"{made.drafted:.0%}", f"{made.rejected:.0%}"]
        cells += (
            ["equal", "equal"] if equal else [f"{mean(made.psnr):.1f}", f"{min(made.psnr):.1f}"]
        )
        cells += [f"{mean(made.fewer):.1f}", f"{min(made.fewer):.1f}"] if made.fewer else ["", ""]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return PAGE.format(steps=STEPS, batch=batch, rows="\n".join(rows), promise=PROMISE)


if __name__ == "__main__":
    print(page().strip())  # noqa: T201 - this is the generator of docs/samplers.md
