"""Two clients, hundreds of runs, a server that is killed: nothing is mixed up, nothing grows, the
same seed gives the same bytes."""

import concurrent.futures
import gc
import json
import logging
import os
import random
import signal
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest
import torch
from conftest import COMFY, load_tools
from models import build, features, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core.budgets import BUDGETS
from speca_pack.speca_core.forecasters import FORECASTERS
from speca_pack.speca_core.verifiers import VERIFIERS
from test_server import ask, finish, graph
from tiny import TINY

MEGABYTE = 1 << 20
log = logging.getLogger("tests")


@pytest.fixture
def fresh(tmp_path):
    """Starts a server of its own: (address, process)."""

    def start():
        return load_tools("server").server(
            Path(sys.executable), COMFY, "127.0.0.1", 0, tmp_path / "log.txt"
        )

    return start


def variant(number, steps=8):
    """One of many graphs: another seed, size, number of images, sampler and settings. Their drafts
    need no profile: what one run teaches is known in the next."""
    chooser = random.Random(number)
    made = graph(
        threshold=chooser.choice([0.0, 0.05, 0.2, 1.0]),
        level=chooser.choice(["features", "prediction"]),
        forecaster="newton",
        verifier="embedded",
        budget="accumulated",
    )
    made["6"]["inputs"] |= {
        "width": chooser.choice([64, 96, 128]),
        "height": chooser.choice([64, 128]),
        "batch_size": chooser.choice([1, 2]),
    }
    made["8"]["inputs"] |= {
        "seed": number,
        "steps": steps,
        "cfg": chooser.choice([1.0, 3.0]),
        "sampler_name": chooser.choice(["euler", "heun", "dpmpp_2m"]),
    }
    return made


def queue(address, prompt, client):
    return ask(address, "/prompt", {"prompt": prompt, "client_id": client})["prompt_id"]


def pictures(address, entry):
    """The bytes of all pictures that a graph saved."""
    found = []
    for picture in entry["outputs"]["11"]["images"]:
        where = urllib.parse.urlencode(
            {key: picture[key] for key in ("filename", "subfolder", "type")}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{address}/view?{where}", timeout=60
        ) as response:
            found.append(response.read())
    return found


def outcome(address, entry):
    """What a run made: its pictures and its report, less the times and ids."""
    assert entry["status"]["status_str"] == "success", entry["status"]
    report = json.loads(entry["outputs"]["9"]["speca_report"][0])
    return (
        pictures(address, entry),
        report["settings"],
        report["steps"],
        [call["rows"] for call in report["calls"]],
    )


def wait(address, identity, limit=600):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if entry := ask(address, f"/history/{identity}").get(identity):
            return entry
        time.sleep(0.1)
    pytest.fail(f"no end in {limit} s")


def forget(address):
    """Let the server compute everything anew."""
    request = urllib.request.Request(
        address + "/free", json.dumps({"unload_models": True, "free_memory": True}).encode()
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).read()


def test_two_clients_on_one_server_get_what_each_asked_for(comfy):
    """Queued at the same time, each run is as if it were alone."""
    numbers = [1, 2, 3, 4]
    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as clients:
        identities = list(
            clients.map(
                lambda number: queue(comfy, variant(number), f"client-{number % 2}"), numbers
            )
        )
    together = [outcome(comfy, wait(comfy, identity)) for identity in identities]
    for number, found in zip(numbers, together, strict=True):
        wanted = variant(number)
        assert (found[1]["threshold"], found[1]["level"]) == (
            wanted["7"]["inputs"]["threshold"],
            wanted["7"]["inputs"]["level"],
        )
        assert found[2] == wanted["8"]["inputs"]["steps"]
    forget(comfy)
    for number, found in zip(reversed(numbers), reversed(together), strict=True):
        assert outcome(comfy, finish(comfy, variant(number))) == found


@pytest.mark.long
def test_two_hundred_queued_runs(fresh):
    """A hundred graphs, all queued at once, twice: the same bytes, and the server's memory stays as
    it is."""
    with fresh() as (address, process):
        server = psutil.Process(process.pid)
        rounds, sizes = [], []
        for turn in range(2):
            identities = [
                queue(address, variant(number), f"client-{number % 2}") for number in range(100)
            ]
            rounds.append([])
            for identity in identities:
                rounds[turn].append(outcome(address, wait(address, identity)))
                sizes.append(server.memory_info().rss / MEGABYTE)
            forget(address)
    assert rounds[0] == rounds[1]
    grown = sum(sizes[-20:]) / 20 - sum(sizes[80:100]) / 20
    log.info(
        "resident memory: %.0f MB after 1 run, %.0f after 100, %.0f after 200; rounds' ends %+.1f",
        sizes[0],
        sizes[99],
        sizes[-1],
        grown,
    )
    assert grown < 40


@pytest.mark.long
def test_a_server_that_is_killed_in_the_middle_of_a_run(fresh):
    with fresh() as (address, _):
        expected = outcome(address, finish(address, variant(7)))
    with fresh() as (address, process):
        queue(address, variant(8, steps=2000), "client")
        deadline = time.monotonic() + 120
        while not ask(address, "/queue")["queue_running"] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        assert ask(address, "/queue")["queue_running"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    with fresh() as (address, _):
        assert outcome(address, finish(address, variant(7))) == expected


FAMILIES = ("flux", "sd3", "wan_vace", "cosmos", "ltxav", "qwen", "z_image", "hunyuan_video")


def settings(chooser):
    verifier = chooser.choice(list(VERIFIERS))
    level = (
        chooser.choice(["features", "prediction"])
        if VERIFIERS[verifier].block == ""
        else "features"
    )
    budget = chooser.choice([name for name in BUDGETS if name != "mask"])
    return features(
        chooser.choice([0.05, 0.3, 1.0]),
        FORECASTERS[chooser.choice(list(FORECASTERS))](),
        VERIFIERS[verifier](),
        BUDGETS[budget](),
        hindsight=chooser.random() < 0.5,
        level=level,
    )


def a_run(models, number, folder):
    """It begins without a profile: one that a run before it has taught would change it."""
    chooser = random.Random(number)
    name = chooser.choice(FAMILIES)
    config = settings(chooser)
    images = list(range(chooser.choice([1, TINY[name].batch])))
    fast = accelerate(models[name], config, profiles=ProfileStore(folder))
    latent = sample_tiny(
        fast,
        name,
        images,
        steps=chooser.choice([6, 9, 14]),
        sampler=chooser.choice(["euler", "dpmpp_2m", "heun"]),
    )
    return latent, [[row.verdict for row in call.rows] for call in find(latent).calls]


@pytest.mark.long
def test_two_hundred_runs_of_changing_models_and_settings(tmp_path):
    """In one process: the same bytes twice, no tensor left over, and memory stays as it is."""
    models = {name: build(name) for name in FAMILIES}
    process, sizes, left = psutil.Process(), [], []
    first = [a_run(models, number, tmp_path / f"first {number}") for number in range(100)]
    gc.collect()
    gc.freeze()
    try:
        for number, (latent, verdicts) in enumerate(first):
            again = a_run(models, number, tmp_path / f"again {number}")
            assert torch.equal(again[0], latent) and again[1] == verdicts, number
            del again
            gc.collect()
            left.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))
            sizes.append(process.memory_info().rss / MEGABYTE)
    finally:
        gc.unfreeze()
    log.info("resident memory: %.0f MB after 101 runs, %.0f after 200", sizes[0], sizes[-1])
    assert left == [0] * 100
    assert sizes[-1] - sizes[0] < 40
