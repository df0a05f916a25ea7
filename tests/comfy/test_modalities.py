"""Video and audio that lie end to end in one row: each is judged for itself, the worst decides."""

import math

import pytest
import torch
from models import build, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.gatherer import Gatherer
from speca_pack.speca_core.verifiers import Embedded
from tiny import TINY

BOTH = [name for name in ("ltxav", "minimax") if name in TINY]
ALONE = {"forecaster": Newton(), "verifier": Embedded(), "budget": Threshold(warmup=2)}


class Deaf(Embedded):
    """Writes down what it is asked to compare; all of it is equal but for one part."""

    name, heard, other = "deaf", [], None

    def error(self, forecast, reference):
        self.heard.append(forecast.shape[1:].numel())
        return torch.full((len(forecast),), 0.7 if self.heard[-1] == self.other else 0.01)


@pytest.mark.parametrize("level", ["prediction", "features"])
@pytest.mark.parametrize("name", BOTH)
def test_the_worst_part_decides(name, level, monkeypatch):
    sizes = [math.prod(shape) for shape in TINY[name].latent]
    monkeypatch.setattr(Deaf, "heard", [])
    monkeypatch.setattr(Deaf, "other", sizes[1])
    config = SpecaConfig(0.5, **ALONE | {"verifier": Deaf()}, level=level)
    report = find(sample_tiny(accelerate(build(name), config), name, steps=6))
    assert {*Deaf.heard} == {*sizes}
    rows = [row for call in report.calls for row in call.rows]
    judged = [row for row in rows if row.error is not None]
    assert judged and {round(row.error, 3) for row in judged} == {0.7}
    assert {row.verdict for row in judged} == {"rejected"}


@pytest.mark.parametrize("name", BOTH)
def test_a_profile_counts_each_part_alike(name, tmp_path, monkeypatch):
    gatherers = []
    monkeypatch.setattr(
        Gatherer, "profile", lambda self, *_: gatherers.append([*self._kept]), raising=True
    )
    store = ProfileStore(tmp_path)
    sample_tiny(accelerate(build(name), SpecaConfig(), profiles=store), name, steps=4)
    sizes = [math.prod(shape) for shape in TINY[name].latent]
    first, *_ = gatherers[0]
    squares = [part.square().sum().item() for part in first.split(sizes, 1)]
    assert squares[0] == pytest.approx(squares[1], rel=0.2), "the first latent is noise in both"
