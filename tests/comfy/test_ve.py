"""Models whose sigma is noise over signal (VE; ComfyUI's EPS models and EDM): a draft's estimated
error has to tell its true one, at any height of the schedule."""

import math
from itertools import pairwise
from statistics import median

import pytest
import torch
from speca_pack.nodes.runtime.subjects.prediction import PredictionSubject
from speca_pack.speca_core import Session, SpecaConfig
from speca_pack.speca_core.budgets import Accumulated
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.tensors import join
from speca_pack.speca_core.verifiers import Embedded

STEPS, IMAGES, SIZE, KINDS = 28, 4, 256, 12
ALONE = SpecaConfig(0.1, forecaster=Newton(), verifier=Embedded(), budget=Accumulated())


def karras(highest, lowest=0.03):
    low, high = lowest ** (1 / 7), highest ** (1 / 7)
    return [(high + i / (STEPS - 1) * (low - high)) ** 7 for i in range(STEPS)] + [0.0]


def exponential(highest, lowest=0.03):
    low, high = math.log(lowest), math.log(highest)
    return [math.exp(high + i / (STEPS - 1) * (low - high)) for i in range(STEPS)] + [0.0]


def denoiser():
    """The exact one of a mixture of Gaussians whose spectra fall as pictures' do."""
    centres = torch.randn(KINDS, SIZE, generator=torch.Generator().manual_seed(0))
    spread = torch.arange(1, SIZE + 1).float() ** -1.2
    spread = 0.25 * spread / spread.mean()

    def denoise(x, sigma):
        apart, variance = x[:, None] - centres, spread + sigma**2
        shares = (-0.5 * (apart.square() / variance).sum(-1)).softmax(-1)
        return (shares[..., None] * (centres + spread / variance * apart)).sum(1)

    return denoise


def sample(sigmas, fast):
    """The last latents, and true over estimated errors of the drafts."""
    denoise, ratios = denoiser(), []
    x = sigmas[0] * torch.randn(IMAGES, SIZE, generator=torch.Generator().manual_seed(1))
    session = Session(ALONE, sigmas, flow=False)
    for sigma, following in pairwise(sigmas):
        truth = answer = denoise(x, sigma)
        if fast:
            prediction = session.predict(torch.tensor(sigma), x)
            call = prediction.open_call(range(IMAGES), range(IMAGES), [0] * IMAGES)
            subject = PredictionSubject(ALONE.verifier, x, sigma, lambda rows, made=truth: made)
            answer = join(call.answer(subject))
            call.close(0.0)
            # Of the movement that it makes, as the picture sees it.
            wrong = (answer - truth).norm(dim=1) * (1 + sigma) / sigma
            whole = ((x - truth) / sigma - truth).norm(dim=1)
            ratios += [
                float(off / size) / row.error
                for row, off, size in zip(call.records, wrong, whole, strict=True)
                if row.verdict == "accepted" and row.error
            ]
            answer = prediction.serve(x, answer)
        x = x + (x - answer) / sigma * (following - sigma)
    return x, ratios, session.report


@pytest.mark.parametrize(
    ("sigmas", "near", "ratio"),
    [
        (karras(14.6), 0.008, 1.5),
        (karras(80.0), 0.01, 1.5),
        (karras(4518.0), 0.1, 4.0),
        (exponential(80.0), 0.01, 1.5),
    ],
    ids=["SDXL", "EDM", "4518", "exponential"],
)
def test_a_draft_knows_how_far_it_is_off(sigmas, near, ratio):
    plain, _, _ = sample(sigmas, fast=False)
    made, ratios, report = sample(sigmas, fast=True)
    distances = (made - plain).norm(dim=1) / plain.norm(dim=1)
    assert report.rows / report.evaluations > 1.2
    assert median(ratios) < ratio and float(distances.max()) < near
