"""Families of ComfyUI versions after 0.30, at the default level: nothing is known of them."""

import pytest
import torch
from models import build, checked, sample_tiny
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.speca_core import SpecaConfig
from tiny import NEWER, TINY

every_family = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.family(name)) for name in NEWER]
)


@pytest.fixture
def plain(monkeypatch, name):
    """A model of the family, and what it makes."""
    monkeypatch.setitem(TINY, name, NEWER[name])
    model = build(name)
    return model, sample_tiny(model, name)


@every_family
@pytest.mark.parametrize("config", [SpecaConfig(0.0), checked(1e-12)], ids=["zero", "refused"])
def test_without_drafts_it_is_the_plain_model_bit_for_bit(plain, name, config):
    model, expected = plain
    made = sample_tiny(accelerate(model, config), name)
    assert torch.equal(made, expected) and not find(made).count("accepted")


@every_family
def test_the_first_run_teaches_and_the_next_one_drafts(plain, name):
    model, expected = plain
    fast = accelerate(model, SpecaConfig(0.2))
    assert torch.equal(sample_tiny(fast, name), expected)
    assert find(sample_tiny(fast, name)).count("accepted")
