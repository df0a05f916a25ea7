"""The component that makes the bed `rough` come apart as real models do."""

import importlib
from pathlib import Path

import pytest
import torch

SIGMAS = torch.tensor([1.0, 0.25])


@pytest.fixture
def rough(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    return importlib.import_module("roughness").Roughness(share=0.2, gain=30.0, part=4)


@pytest.fixture
def latent():
    return torch.randn(2, 16, 24, 20, generator=torch.Generator().manual_seed(1))


def test_its_size_is_a_share_of_the_answer_and_falls_with_sigma(rough, latent):
    slope = torch.randn(latent.shape, generator=torch.Generator().manual_seed(2))
    component = rough(latent, SIGMAS, slope) - slope
    sizes = component.flatten(1).norm(dim=1) / slope.flatten(1).norm(dim=1)
    torch.testing.assert_close(sizes, 0.2 * SIGMAS)


def test_it_is_a_function_of_its_own_row(rough, latent):
    slope = latent.flip(2)
    both = rough(latent, SIGMAS, slope)
    torch.testing.assert_close(rough(latent[1:], SIGMAS[1:], slope[1:]), both[1:])


def test_what_is_flat_in_the_estimate_stays(rough, latent):
    estimate = latent.flip(2)
    estimate[..., :10] = 1.0
    sigma = SIGMAS.view(-1, 1, 1, 1)
    slope = (latent - estimate) / sigma
    moved = latent - sigma * rough(latent, SIGMAS, slope)
    torch.testing.assert_close(moved[..., :9], estimate[..., :9])
    assert (moved - estimate)[..., 11:].abs().mean() > 0.01


def test_neighbours_move_alike_and_a_small_change_of_the_latent_moves_them_elsewhere(rough, latent):
    shift = rough.shift(latent)
    spread = shift.std()
    assert shift.diff(dim=3).std() < 0.5 * spread
    nudged = rough.shift(latent + 0.1 * latent.flip(3))
    assert (nudged - shift).std() > 0.5 * spread
