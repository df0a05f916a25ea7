"""Which run made this latent? Reports of the newest runs, found again by the bytes of what they
made.

Content is the only key that holds across ComfyUI's node cache, subgraphs, two samplers behind one
model and equal node ids in two workflows: the latent that reaches the report node is the latent
that the sampler returned.
"""

import hashlib
import threading
from collections import OrderedDict
from typing import Any

import comfy.model_management
import comfy.utils
import torch

from ....speca_core.report import RunReport
from ..compat import intermediate_dtype

# Rows of all kept reports together, .6 KB each: two thousand runs of 28 steps. Tiles and detailers
# make hundreds in one prompt.
MOST_ROWS = 56_000

# By digest, and whether the run was the plain model's.
_reports: OrderedDict[tuple[str, bool], RunReport] = OrderedDict()
_lock = threading.Lock()


def digest(latent: Any) -> str:
    """SHA-256 of a latent as ComfyUI hands it to the next node; nested ones are packed first."""
    if getattr(latent, "is_nested", False):
        latent, _ = comfy.utils.pack_latents(latent.unbind())
    handed = latent.to(
        device=comfy.model_management.intermediate_device(), dtype=intermediate_dtype(latent)
    )
    return hashlib.sha256(handed.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def remember(latent: Any, report: RunReport) -> None:
    """Keep the report of the run that made this latent."""
    key = digest(latent), is_plain(report)
    with _lock:
        _reports.pop(key, None)
        _reports[key] = report
        rows = sum(kept.rows for kept in _reports.values())
        while rows > MOST_ROWS and len(_reports) > 1:
            rows -= _reports.popitem(last=False)[1].rows


def find(latent: Any, plain: bool | None = None) -> RunReport | None:
    """The report of the run that made this latent; None if SpeCa did not make it, or too long ago.

    Two runs may make the same latent, as with a sampler that adds fresh noise: then the newest one
    is meant, or, with `plain`, that of the plain model (True) or the other (False), if there is
    one.
    """
    made = digest(latent)
    with _lock:
        found = [report for (key, _), report in _reports.items() if key == made]
    found = [report for report in found if plain in (None, is_plain(report))] or found
    return found[-1] if found else None


def find_run(run: str) -> RunReport | None:
    """The report of a run by its id; None if it did not finish, or too long ago."""
    with _lock:
        return next((r for r in _reports.values() if r.ids.get("run") == run), None)


def is_plain(report: RunReport) -> bool:
    """Whether a run was one with threshold 0: the plain model."""
    return report.settings.get("threshold") == 0
