"""Models whose class is in no table: found, rehearsed, and then as good as those that are in it, or refused before anything is lost."""

import math

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import pytest
import torch
from models import TINY, build, sample_tiny
from speca_pack.speca_core import SpecaConfig, UnsupportedModel
from speca_pack.speca_core.bridge import families
from speca_pack.speca_core.bridge.attach import accelerate
from speca_pack.speca_core.bridge.discovery import stacks_of
from speca_pack.speca_core.bridge.proxy import resolve
from speca_pack.speca_core.bridge.reports import find
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.verifiers import VERIFIERS

EAGER = SpecaConfig(math.inf, Newton(1, 0.0), budget=Threshold(warmup=2, max_streak=3))
each_way = pytest.mark.parametrize("verifier", [VERIFIERS[v]() for v in ("embedded", "last_block", "first_block")], ids=lambda v: v.name)


@pytest.fixture
def unlisted(monkeypatch):
    """As if the table were empty."""
    monkeypatch.setattr(families, "BY_CLASS", {})


@pytest.mark.parametrize("name", [n for n in TINY])
def test_probe(unlisted, name):
    model = build(name)
    fast = accelerate(model, EAGER)
    latent = sample_tiny(fast, name)
    monkey = find(latent)
    from speca_pack.speca_core.bridge.discovery import _settled
    print(name, _settled[model.model.diffusion_model], monkey.count("drafted"))
