"""Jumps of the latent, on lines, bends and noise."""

import pytest
import torch

from speca_core import SpecaConfig
from speca_core.anchors import HEAD_INPUT
from speca_core.jumps import JumpDetector
from speca_core.session import Session


def arrive(jumps, sigma, *images, slopes=None):
    """Go to `sigma`, where each image's latent is one number; the images that have jumped. `slopes`
    are served there."""
    x = torch.tensor(images)[:, None]
    level, jumped = jumps.observe(torch.tensor(sigma), x)
    assert level == pytest.approx(sigma)
    if slopes is not None:
        jumps.record_served(x - sigma * torch.tensor(slopes)[:, None])
    return jumped


def test_a_line_in_sigma_is_a_path_at_any_stride():
    jumps = JumpDetector()
    for sigma in (1.0, 0.9, 0.4, 0.3):
        assert arrive(jumps, sigma, 10 * sigma, 3 - 7 * sigma) == set()


# From 10 over 9 the line leads to 8: at 9 + d the latent is off by |d + 1| of |d|, and jumps where
# that is more than .707.
@pytest.mark.parametrize(
    ("third", "jumped"),
    [
        (8.0, False),
        (8.4, False),
        (8.45, True),
        (9.5, True),
        (7.5, False),
        (5.7, False),
        (5.5, True),
    ],
)
def test_a_jump_is_a_movement_that_is_mostly_off_the_line(third, jumped):
    jumps = JumpDetector()
    arrive(jumps, 0.9, 10.0)
    arrive(jumps, 0.8, 9.0)
    assert arrive(jumps, 0.7, third) == ({0} if jumped else set())


def test_the_served_slope_is_as_good_a_line():
    """Euler follows what it is served, and drafts may have been off: the jumps bends, and is none
    the less one."""
    jumps = JumpDetector()
    arrive(jumps, 0.9, 10.0, 10.0, slopes=[10.0, 10.0])
    arrive(jumps, 0.8, 9.0, 9.0, slopes=[-20.0, 10.0])
    assert arrive(jumps, 0.7, 11.0, 11.0) == {1}


def test_each_image_jumps_for_itself_and_one_that_is_not_finite_has():
    jumps = JumpDetector()
    for sigma in (1.0, 0.9):
        arrive(jumps, sigma, sigma, sigma, sigma)
    assert arrive(jumps, 0.8, 0.8, 1.1, float("nan")) == {1, 2}


@pytest.mark.parametrize(("second", "jumped"), [(9.5, False), (8.0, True)])
def test_at_the_same_sigma_only_a_small_movement_is_none(second, jumped):
    """Heun's second call corrects the first, which moved by 1; fresh noise is no correction. The
    next place continues from there."""
    jumps = JumpDetector()
    arrive(jumps, 1.0, 10.0)
    arrive(jumps, 0.9, 9.0)
    assert arrive(jumps, 0.9, second) == ({0} if jumped else set())
    assert arrive(jumps, 0.8, 2 * second - 10.0) == set()


def test_another_batch_starts_anew():
    jumps = JumpDetector()
    arrive(jumps, 1.0, 10.0)
    arrive(jumps, 0.9, 9.0)
    assert arrive(jumps, 0.8, 0.0, 0.0) == set()
    assert arrive(jumps, 0.7, 5.0, 5.0) == set()


def test_it_keeps_copies_of_two_places_and_the_slope():
    jumps, x = JumpDetector(), torch.tensor([[1.0], [2.0]])
    for sigma in (1.0, 0.9, 0.8):
        jumps.observe(torch.tensor(sigma), x * sigma)
    assert jumps.nbytes == 2 * x.nbytes
    jumps.record_served(x)
    assert jumps.nbytes == 3 * x.nbytes
    mine = x * 0.7
    jumps.observe(torch.tensor(0.7), mine)
    mine.fill_(9.0)  # the sampler may write into its latent
    assert arrive(jumps, 0.6, 0.6, 1.2) == set()


def test_anchors_of_before_a_jump_are_dropped_and_drafts_begin_with_new_ones():
    session = Session(SpecaConfig(1.0).without_profile, [1.0 - i / 12 for i in range(13)])
    reasons = []
    for step in range(12):
        prediction = session.predict_at(1.0 - step / 12, jumped={1} if step == 5 else ())
        call = prediction.open_call(["a", "b"], [0, 1], [0, 0])
        _, rejected = call.judge(call.draft_rows, [0.01] * len(call.draft_rows))
        call.observe(HEAD_INPUT, call.full_rows, [torch.ones(1)] * len(call.full_rows))
        reasons.append([row.reason for row in call.close(0.0).rows])
        assert not rejected
    assert [a for a, _ in reasons[3:9]] == ["draft"] * 6
    assert [b for _, b in reasons[3:9]] == ["draft", "draft", "jump", "anchors", "anchors", "draft"]
