"""SpeCa under ComfyUI's context windows: a window is a part of the frames, and each gets its own
lanes."""

from collections import Counter

import comfy.sample
import pytest
from comfy_extras import nodes_context_windows
from graphs import assert_harmless, assert_untouched, with_node
from models import build, features
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.subjects import RUNS
from speca_pack.speca_core.session import FORGET_AFTER
from tiny import random


def graph_of(model, schedule, steps):
    """A graph of seven latent frames in windows of three."""
    windows = with_node(
        nodes_context_windows.WanContextWindowsManualNode,
        9,
        4,
        schedule,
        1,
        False,
        "pyramid",
        False,
    )

    def graph(wrap):
        noise = random(7, 1, 16, 7, 4, 4)
        conditioning = [[[random(seed, 1, 6, 32), {}]] for seed in (1, 2)]
        return comfy.sample.sample(
            wrap(windows(model)),
            noise,
            steps,
            3.0,
            "euler",
            "simple",
            *conditioning,
            0 * noise,
            disable_pbar=True,
            seed=7,
        )

    return graph


@pytest.mark.goes_with(
    "context windows", "yes, if they stay where they are; little is skipped if they shift"
)
@pytest.mark.parametrize("schedule", ["standard_static", "batched"])
def test_windows_that_stay(schedule):
    model = build("wan")
    graph = graph_of(model, schedule, steps=10)
    assert_harmless(graph, model, config=features(threshold=1.0), max_distance=1.0)
    assert_untouched(graph)


@pytest.mark.parametrize("schedule", ["standard_uniform", "looped_uniform"])
def test_windows_that_shift(schedule):
    """Few windows come back soon enough to be drafted. The others leave lanes behind, and these are
    forgotten: memory does not grow with the steps."""
    alive = []

    class Watched(RUNS["features"]):
        def predict(self, *args):
            denoised = super().predict(*args)
            alive.append(len(self.session.lanes))
            return denoised

    model = build("wan")
    graph = graph_of(model, schedule, steps=40)
    assert_harmless(graph, model, config=features(threshold=0.1), max_distance=0.05)
    latent = graph(lambda model: accelerate(model, features(threshold=0.1), run=Watched))
    rows = Counter()
    lanes = set()
    for call in find(latent).calls:
        rows[call.prediction] += len(call.rows)
        lanes |= {row.lane for row in call.rows}
    assert max(alive) <= (FORGET_AFTER + 1) * max(rows.values()) < len(lanes)
