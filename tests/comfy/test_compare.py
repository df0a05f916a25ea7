"""SpeCa Compare, and the run in the file: with the demo's model and autoencoder."""

import dataclasses
import json
import math
import tracemalloc
from types import SimpleNamespace

import comfy.sd
import comfy.utils
import numpy as np
import pytest
import torch
from conftest import PACK, load
from models import checked, sample_flux, trained_flux
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find, remember
from speca_pack.nodes.runtime.page.workflow_metadata import MOST_BYTES, PROPERTY, stamp
from speca_pack.speca_core.errors import SpecaError
from speca_pack.speca_core.report import RunReport
from speca_pack.speca_core.report_json import unpack, write

Counting = load(PACK / "benchmarks/counting.py").Counting
SIDES = "plain", "accelerated"


@pytest.fixture(scope="module")
def vae():
    return comfy.sd.VAE(
        sd=comfy.utils.load_torch_file(str(PACK / "demo/models/vae/tiny_vae.safetensors"))
    )


@pytest.fixture(scope="module")
def latents():
    """Two images: plain, and accelerated."""
    flux = trained_flux()
    return [
        {"samples": sample_flux(accelerate(flux, checked(threshold=t)), steps=12)}
        for t in (0.0, 0.3)
    ]


def test_pictures_numbers_and_words(nodes, vae, latents):
    plain, fast = latents
    output = nodes["SpeCaCompare"].execute(plain=plain, accelerated=fast, vae=vae)
    sheets, psnr, text = output.result
    assert (
        sheets.shape[0] == 2
        and sheets.shape[2] > 3 * 128
        and sheets.min() >= 0
        and sheets.max() <= 1
    )
    # The same numbers from the decoded pictures themselves.
    before, after = (
        (vae.decode(latent["samples"]).clamp(0, 1) * 255).round().numpy() for latent in latents
    )
    expected = min(
        10 * math.log10(255**2 / np.mean((a - b) ** 2)) for a, b in zip(before, after, strict=True)
    )
    assert psnr == pytest.approx(expected, abs=1e-6) and f"{psnr:.1f} dB" in text
    seconds = [find(latent["samples"]).seconds for latent in latents]
    assert f"measured speed-up: {seconds[0] / seconds[1]:.2f} x" in text
    assert output.ui["images"] and output.ui["text"] == (text,)


def test_equal_latents_are_equal(nodes, vae, latents):
    _, psnr, text = (
        nodes["SpeCaCompare"].execute(plain=latents[0], accelerated=latents[0], vae=vae).result
    )
    assert psnr == math.inf and "equal" in text


def test_of_two_runs_that_made_one_latent_each_side_has_its_own():
    """As with samplers that add fresh noise: the accelerated run, too, is the plain model's."""
    latent = torch.randn(1, 4, 2, 2)
    plain, fast = (RunReport("Flux", checked(threshold=t).to_dict(), 4) for t in (0.0, 0.1))
    for order in ((plain, fast), (fast, plain)):
        for report in order:
            remember(latent, report)
        assert (
            find(latent, plain=True) is plain
            and find(latent, plain=False) is fast
            and find(latent) is order[1]
        )
    alone = latent + 1
    remember(alone, fast)
    assert find(alone, plain=True) is fast


def test_a_latent_that_speca_did_not_make_has_no_seconds(nodes, vae, latents):
    other = {"samples": latents[0]["samples"] + 0.01}
    _, psnr, text = (
        nodes["SpeCaCompare"].execute(plain=other, accelerated=latents[1], vae=vae).result
    )
    assert math.isfinite(psnr) and "seconds unknown" in text and "measured" not in text


def test_an_accelerated_run_in_the_place_of_the_plain_one_is_called_so(nodes, vae, latents):
    assert (
        "threshold to 0"
        in nodes["SpeCaCompare"]
        .execute(plain=latents[1], accelerated=latents[1], vae=vae)
        .result[2]
    )


def test_different_shapes_are_explained(nodes, vae, latents):
    with pytest.raises(SpecaError, match=r"expected the same\. Give both"):
        nodes["SpeCaCompare"].execute(
            plain=latents[0], accelerated={"samples": torch.zeros(1, 16, 16, 16)}, vae=vae
        )


def test_of_a_video_the_worst_frame_decides(nodes):
    video = torch.full((1, 4, 64, 64, 3), 0.5)
    decoded = {0.0: video, 1.0: video.clone()}
    decoded[1.0][0, 2] += 0.1
    vae = SimpleNamespace(decode=lambda latent: decoded[latent.max().item()])
    plain, fast = ({"samples": torch.full((1, 16, 1, 8, 8), value)} for value in (0.0, 1.0))
    sheets, psnr, text = (
        nodes["SpeCaCompare"].execute(plain=plain, accelerated=fast, vae=vae).result
    )
    assert sheets.shape[0] == 4 and "number 3 of 4" in text
    assert psnr == pytest.approx(-20 * math.log10((153 - 128) / 255), abs=0.01)


def compared(nodes, frames):
    """SpeCa Compare of two videos of 96 x 96 pixels, of which the later frames differ more: its
    sheets, and the most bytes that it held besides what the VAE had decoded."""
    plain = torch.full((1, frames, 96, 96, 3), 0.5)
    other = plain + torch.linspace(0.01, 0.2, frames)[:, None, None, None]
    vae = SimpleNamespace(decode=lambda latent: (plain, other)[int(latent.max())])
    latents = ({"samples": torch.full((1, 16, frames, 8, 8), value)} for value in (0.0, 1.0))
    tracemalloc.start()
    with Counting() as costs:
        output = nodes["SpeCaCompare"].execute(**dict(zip(SIDES, latents, strict=True)), vae=vae)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return output, costs.peak + peak


def test_a_long_video_takes_hardly_more_than_its_bytes(nodes):
    """A frame is kept in 8 bits, twice. All its numbers count, and the worst frames are shown."""
    compared(nodes, 8)  # whatever is made once
    few, base = compared(nodes, 8)
    many, peak = compared(nodes, 48)
    assert few.result[0].shape == many.result[0].shape and len(many.result[0]) == 8
    assert (peak - base) / 40 < 3 * 96 * 96 * 3
    assert "number 48 of 48" in many.result[2]


def workflow():
    """A node of ours at the top, and one in a subgraph that is used as node 5."""
    accelerate = {"id": 7, "type": "SpeCaAccelerate", "properties": {}}
    inner = {
        "id": "uuid",
        "nodes": [{"id": 2, "type": "SpeCaAccelerate"}, {"id": 3, "type": "KSampler"}],
    }
    return {"nodes": [accelerate, {"id": 5, "type": "uuid"}], "definitions": {"subgraphs": [inner]}}


def test_the_run_is_stamped_at_its_node(latents):
    report = find(latents[1]["samples"])
    for path, place in (
        ("7", lambda w: w["nodes"][0]),
        ("5:2", lambda w: w["definitions"]["subgraphs"][0]["nodes"][0]),
    ):
        saved = workflow()
        report.ids = {"node": path, "sampler": "8", "run": "new", "prompt": "p", "workflow": "w"}
        old = {"ids": {"node": path, "sampler": "8", "run": "old"}}
        kept = {"ids": {"node": path, "sampler": "9", "run": "of another sampler"}}
        place(saved)["properties"] = {PROPERTY: [old, kept]}
        assert stamp(saved, report)
        runs = place(saved)["properties"][PROPERTY]
        assert [run["ids"]["run"] for run in runs] == ["of another sampler", "new"]
        assert unpack(runs[1]["report"]) == write(report) and runs[1]["ended"]


@pytest.mark.parametrize("path", ["", "99", "7:1", "5:3", "5"])
def test_a_workflow_without_the_node_is_left_alone(latents, path):
    saved, before = workflow(), workflow()
    report = find(latents[1]["samples"])
    report.ids = {"node": path, "sampler": "8"}
    assert not stamp(saved, report) and saved == before


ODD = [None, "text", 7, [1], {}, {"nodes": None}, {"nodes": {}}, {"nodes": [None, 5, {"id": 7}]}]
ODD += [{"nodes": [], "definitions": odd} for odd in (None, [], {"subgraphs": None})]
ODD += [{"nodes": [], "definitions": {"subgraphs": [None, {"nodes": 1}]}}]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_whatever_a_program_wrote_as_workflow_is_left_alone(latents, odd):
    report = find(latents[1]["samples"])
    report.ids = {"node": "7", "sampler": "8"}
    assert not stamp(odd, report)


@pytest.mark.parametrize("kept", [None, [], 5, {PROPERTY: 5}, {PROPERTY: [None, {}, {"ids": 1}]}])
def test_whatever_lies_at_the_node_makes_room(latents, kept):
    saved, report = workflow(), find(latents[1]["samples"])
    saved["nodes"][0]["properties"] = kept
    report.ids = {"node": "7", "sampler": "8", "run": "new"}
    assert stamp(saved, report)
    assert saved["nodes"][0]["properties"][PROPERTY][-1]["ids"]["run"] == "new"


def test_runs_take_a_bounded_part_of_a_file(latents):
    """A JPEG holds 64 KB of metadata. A run that does not fit tells its totals."""
    report = find(latents[1]["samples"])
    report.ids = {"node": "7", "sampler": "8", "run": "new"}
    long = dataclasses.replace(report, calls=report.calls * 40)
    saved = workflow()
    others = [{"ids": {"node": "7", "sampler": str(i)}, "report": "x" * 6000} for i in range(9)]
    saved["nodes"][0]["properties"] = {PROPERTY: others}
    assert stamp(saved, long)
    runs = saved["nodes"][0]["properties"][PROPERTY]
    assert len(json.dumps(runs, separators=(",", ":"))) <= MOST_BYTES + 2 + len(runs)
    assert runs[-1]["ids"]["run"] == "new" and len(runs) > 1, "the newest first"
    assert unpack(runs[-1]["report"])["totals"] == write(long)["totals"]
    assert unpack(runs[-1]["report"])["calls"] == []


def test_the_runs_of_many_nodes_take_no_more_than_those_of_one(latents):
    """Those of the prompt that runs now go last, whichever node made them."""
    report = find(latents[1]["samples"])
    long = dataclasses.replace(report, calls=report.calls * 8)
    saved = {"nodes": [{"id": i, "type": "SpeCaAccelerate"} for i in range(6)]}
    before = {"ids": {"sampler": "9", "prompt": "before"}, "report": "x" * 3000}
    for node in saved["nodes"]:
        node["properties"] = {PROPERTY: [before]}
    for i in (0, 3):
        long.ids = {"node": str(i), "sampler": "8", "run": f"new {i}", "prompt": "now"}
        assert stamp(saved, long)
    runs = [run for node in saved["nodes"] for run in node["properties"][PROPERTY]]
    assert len(json.dumps(runs, separators=(",", ":"))) <= MOST_BYTES + 2 + len(runs)
    assert {run["ids"].get("run") for run in runs} >= {"new 0", "new 3"}
