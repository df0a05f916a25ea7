"""Several machines, several GPUs: two servers that share nothing make the halves of a batch; a
clone of the model on a further device."""

import copy
import io
import itertools
import json
import math
import sys
import threading
import urllib.parse
import urllib.request
from collections import Counter

import comfy.sampler_helpers
import numpy as np
import pytest
import torch
from conftest import COMFY, load_tools
from models import build, features, sample_tiny
from PIL import Image
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core.budgets import Interval
from speca_pack.speca_core.verifiers import VERIFIERS
from test_server import WORKFLOW, ask, finish

BATCH = 2
GRAPHS = itertools.count()


@pytest.fixture(scope="module")
def addresses(comfy, tmp_path_factory):
    """Two servers: the session's, and one more."""
    log = tmp_path_factory.mktemp("second") / "log.txt"
    with load_tools("server").server(sys.executable, COMFY, "127.0.0.1", 0, log) as (address, _):
        yield comfy, address


def graph(name, seed=1, part=None):
    """The demo's graph for a batch of two, twelve steps; of the batch only image `part` if that is
    given. Its drafts need no profile: what one run teaches is known in the next."""
    made = {key: node for key, node in copy.deepcopy(WORKFLOW).items() if key != "12"}
    made["6"]["inputs"]["batch_size"] = BATCH
    choices = {"forecaster": "newton", "verifier": "embedded", "budget": "accumulated"}
    made["7"]["inputs"] |= choices | {"threshold": 0.5}  # so few steps are far apart
    made["8"]["inputs"] |= {"steps": 12, "seed": seed}
    # Spaces mean nothing to the text encoder, but make another graph: nothing comes from the
    # server's cache.
    blanks = " " * next(GRAPHS)
    for node in made.values():
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["text"] += blanks
    made["11"]["inputs"]["filename_prefix"] = f"speca_test_servers/{name}"
    if part is not None:
        made["13"] = {
            "class_type": "LatentFromBatch",
            "inputs": {"samples": ["6", 0], "batch_index": part, "length": 1},
        }
        made["8"]["inputs"]["latent_image"] = ["13", 0]
    return made


def pictures(address, prompt):
    """(pixels of each picture, verdicts of each image) of a graph that a server has run."""
    entry = finish(address, prompt)
    assert entry["status"]["status_str"] == "success"
    found = []
    for image in entry["outputs"]["11"]["images"]:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{address}/view?{urllib.parse.urlencode(image)}", timeout=60
        ) as answer:
            found.append(np.asarray(Image.open(io.BytesIO(answer.read()))))
    report = json.loads(entry["outputs"]["9"]["speca_report"][0])
    images = sorted({row["image"] for row in report["calls"][0]["rows"]})
    verdicts = [
        [
            row["verdict"]
            for call in report["calls"]
            for row in call["rows"]
            if row["image"] == image
        ]
        for image in images
    ]
    assert any("accepted" in verdict for verdict in verdicts)
    return found, verdicts


def at_once(*jobs):
    """The results of (address, graph) pairs that run at the same time."""
    results = [None] * len(jobs)

    def work(i, job):
        results[i] = pictures(*job)

    threads = [threading.Thread(target=work, args=(i, job)) for i, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in results, "a server failed; its error is above"
    return results


def test_a_batch_split_by_index(addresses):
    """Each server takes one image of the batch; together they give the bytes that one server gives
    for the two parts, one by one.

    A server that makes both images in one batch decides the same, but multiplies larger matrices,
    whose sums are rounded otherwise.
    """
    split = at_once(
        *((address, graph(f"split{part}", part=part)) for part, address in enumerate(addresses))
    )
    alone = [pictures(addresses[0], graph(f"alone{part}", part=part)) for part in range(BATCH)]
    whole, verdicts = pictures(addresses[0], graph("whole"))
    assert len(whole) == BATCH and not np.array_equal(whole[0], whole[1])
    for part in range(BATCH):
        assert np.array_equal(split[part][0], alone[part][0]) and split[part][1] == alone[part][1]
        assert split[part][1] == [verdicts[part]]
        assert np.abs(split[part][0][0].astype(int) - whole[part]).max() <= 1


def test_a_batch_split_by_seed(addresses):
    """Servers that take turns with seeds, as several behind one queue do, give what one server
    gives."""
    seeds = (5, 6)
    split = at_once(
        *(
            (address, graph(f"seed{seed}", seed))
            for seed, address in zip(seeds, addresses, strict=True)
        )
    )
    alone = [pictures(addresses[1], graph(f"again{seed}", seed)) for seed in seeds]
    for one, other in zip(split, alone, strict=True):
        assert np.array_equal(one[0], other[0]) and one[1] == other[1]


def test_each_server_knows_its_own_runs_only(addresses):
    """Reports live in the process that made them."""
    prompt = graph("own", 9)
    identity = ask(addresses[0], "/prompt", {"prompt": prompt})["prompt_id"]
    finish(addresses[0], graph("own", 10))
    assert identity in ask(addresses[0], "/history") and identity not in ask(
        addresses[1], "/history"
    )


@pytest.mark.skipif(
    not hasattr(comfy.sampler_helpers, "prepare_model_patcher_multigpu_clones"),
    reason="this ComfyUI knows no clones for further GPUs",
)
@pytest.mark.parametrize("level", ["features", "prediction"])
def test_a_clone_for_a_further_gpu(level, caplog):
    """ComfyUI's own split of cond and uncond, with a second name of the CPU as second device."""
    first, second = build("flux"), build("flux")
    plain = sample_tiny(first, "flux")
    second.load_device, second.is_multigpu_base_clone = torch.device("cpu", 0), True
    both = first.clone()
    both.set_additional_models("multigpu", [second])
    calls = Counter()
    for name, model in (("first", first), ("second", second)):
        model.model.diffusion_model.double_blocks[0].register_forward_hook(
            lambda *_, name=name: calls.update([name])
        )
    config = features(
        math.inf, verifier=VERIFIERS["none"](), budget=Interval(interval=3), level=level
    )
    report = find(sample_tiny(accelerate(both, config), "flux"))
    drafted = [all(row.verdict == "accepted" for row in call.rows) for call in report.calls]
    assert len(drafted) == 10 and sum(drafted) == 4
    if level == "features":
        assert calls == {"first": 6, "second": 10}, "calls of the clone go straight through"
        assert {row.branch for call in report.calls for row in call.rows} == {0}
        assert "another GPU" in caplog.text
    else:
        assert calls == {"first": 6, "second": 6}, "a draft calls neither"
    exact = sample_tiny(accelerate(both, features(0.0, level=level)), "flux")
    torch.testing.assert_close(exact, plain, rtol=1e-4, atol=1e-4)
