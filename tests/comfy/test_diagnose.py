"""What a run tells about itself: one line at INFO, more at DEBUG, and a text for bug reports that
gives nothing private away."""

import logging
import math

import pytest
import torch
from comfyui_version import __version__ as comfyui_version
from conftest import COMFY, PACK
from models import build, features, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.diagnose import diagnose, range_of
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core.report import RunReport


@pytest.fixture(scope="module")
def report():
    return find(sample_tiny(accelerate(build("flux"), features(threshold=1.0)), "flux"))


def test_it_says_what_a_bug_report_needs(report):
    text = diagnose(report)
    for needed in (
        f"ComfyUI {comfyui_version}",
        f"torch {torch.__version__}",
        "Flux.1",
        '"threshold": 1.0',
        '"newton"',
        "accepted (draft)",
        f"hindsight: {report.repaired} predictions corrected",
        report.summary,
        "device cpu, weights torch.float32",
        "torch.compile off, memory compiler none, free before ",
        ", free after ",
        f"waits for the device: {report.waits}",
    ):
        assert needed in text, needed
    assert f"{report.count('accepted')} accepted (draft)" in text and report.repaired


def test_it_gives_nothing_private_away(report):
    text = diagnose(report)
    assert str(PACK) not in text and str(COMFY) not in text and "/" not in text


def test_runs_without_calls_and_without_memory_can_be_told_too():
    assert "0 calls" in diagnose(RunReport("Flux", {}, 4))
    assert "out of memory at call 3" in diagnose(RunReport("Flux", {}, 4, out_of_memory=3))
    unlearned = RunReport("Flux", {}, 4, profile={"state": "none", "why": "hindsight is off"})
    assert "profile: none, why hindsight is off\n" in diagnose(unlearned)
    known = {"state": "served", "name": "secret", "runs": 3}
    assert "profile: served, runs 3\n" in diagnose(RunReport("Flux", {}, 4, profile=known))
    assert "profile: none asked for\n" in diagnose(RunReport("Flux", {}, 4))
    assert range_of([None, 1.0]) == "1 values" and "1 to inf" in range_of([1.0, 2.0, math.inf])


def test_one_line_at_info_and_the_rest_at_debug(caplog):
    fast = accelerate(build("flux"), features())
    with caplog.at_level(logging.DEBUG, "speca"):
        latent = sample_tiny(fast, "flux")
    ours = [record for record in caplog.records if record.name == "speca"]
    assert [record.message for record in ours if record.levelno >= logging.INFO] == [
        f"SpeCa: {find(latent).summary}"
    ]
    assert any(
        diagnose(find(latent)) in record.message
        for record in ours
        if record.levelno == logging.DEBUG
    )


def test_a_run_prints_nothing(capsys):
    sample_tiny(accelerate(build("flux"), features()), "flux")
    assert capsys.readouterr().out == ""
