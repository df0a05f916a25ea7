"""A run as text for a bug report: versions, model family, settings, verdicts and reasons. No paths,
no prompts, no names of files."""

import json
import platform
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any

import comfy.model_management
import torch
from comfyui_version import __version__ as comfyui_version

from ....speca_core.report import RunReport

PACK = Path(__file__).resolve().parents[3]


def version() -> str:
    """The pack's version, as pyproject.toml has it."""
    found = re.search(
        r'^version = "(.+)"$', (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else "unknown"


def diagnose(report: RunReport) -> str:
    """Several lines of text; times in seconds, memory in MB of 2**20 bytes."""
    rows = [row for call in report.calls for row in call.rows]
    lanes = max((len(call.rows) for call in report.calls), default=0)
    reasons = Counter((row.verdict, row.reason) for row in rows)
    device = comfy.model_management.get_torch_device().type
    memory = (
        "" if report.out_of_memory is None else f", out of memory at call {report.out_of_memory}"
    )
    lines = [
        f"SpeCa {version()}, ComfyUI {comfyui_version}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {platform.system()}, {device}",
        f"model: {report.model}, level {report.level}, {report.steps} steps, "
        f"{len(report.calls)} calls of up to {lanes} rows",
        f"settings: {json.dumps(report.settings)}",
        f"profile: {learned(report.profile)}",
        f"run: {report.summary}",
        "machine: " + ", ".join(f"{name} {what}" for name, what in report.machine.items()),
        f"waits for the device: {report.waits}",
        f"anchors: {report.cache_bytes / 2**20:.1f} MB on the {report.placement}{memory}",
        f"hindsight: {report.repaired} predictions corrected",
        "verdicts: "
        + ", ".join(
            f"{count} {verdict} ({reason})" for (verdict, reason), count in reasons.most_common()
        ),
        "errors: " + range_of([row.error for row in rows]),
        "hindcasts: " + range_of([row.hindcast for row in rows]),
        f"seconds per call: {report.seconds_per_call(accepted=False)} computed, "
        f"{report.seconds_per_call(accepted=True)} accepted",
    ]
    return "\n".join(lines)


def learned(profile: Mapping[str, Any] | None) -> str:
    """What a report says of its profile, but for its name, which is the model's."""
    if profile is None:
        return "none asked for"
    known = [f"{name} {profile[name]}" for name in ("why", "runs", "surprise") if name in profile]
    return ", ".join([profile["state"], *known])


def range_of(values: list[float | None]) -> str:
    """Number, least, quartiles and largest of those that are there."""
    there = sorted(value for value in values if value is not None)
    if len(there) < 2:
        return f"{len(there)} values"
    low, middle, high = quantiles(there, n=4)
    ends = f"{there[0]:.4g} to {there[-1]:.4g}"
    return f"{len(there)} values, {ends}, quartiles {low:.4g} {middle:.4g} {high:.4g}"
