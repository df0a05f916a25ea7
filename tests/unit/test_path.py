"""Jumps of the latent, on lines, bends and noise."""

import pytest
import torch

from speca_core import SpecaConfig
from speca_core.path import Path
from speca_core.session import EXIT, Session


def arrive(path, sigma, *images):
    """Go to `sigma`, where each image's latent is one number."""
    return path.arrive(torch.tensor(sigma), torch.tensor(images)[:, None])


def test_a_line_in_sigma_is_a_path_at_any_stride():
    path = Path()
    for sigma in (1.0, 0.9, 0.4, 0.3):
        assert arrive(path, sigma, 10 * sigma, 3 - 7 * sigma) == (pytest.approx(sigma), set())


@pytest.mark.parametrize(("third", "jumped"), [(8.0, False), (8.4, False), (8.6, True), (9.5, True), (7.0, False), (-1.0, False)])
def test_a_jump_is_where_standing_still_foretells_better(third, jumped):
    """From 10 over 9 the line leads to 8; beyond 8.5 the latent is nearer to where it was."""
    path = Path()
    arrive(path, 0.9, 10.0)
    arrive(path, 0.8, 9.0)
    assert arrive(path, 0.7, third)[1] == ({0} if jumped else set())


def test_each_image_jumps_for_itself_and_one_that_is_not_finite_has():
    path = Path()
    for sigma in (1.0, 0.9):
        arrive(path, sigma, sigma, sigma, sigma)
    assert arrive(path, 0.8, 0.8, 1.1, float("nan"))[1] == {1, 2}


def test_the_same_sigma_twice_replaces_the_place():
    """Heun's second call: the first is off, the second on the line that the next place continues."""
    path = Path()
    arrive(path, 1.0, 10.0)
    assert arrive(path, 0.9, 2.0)[1] == set()
    assert arrive(path, 0.9, 9.0)[1] == set()
    assert arrive(path, 0.8, 8.0)[1] == set()


def test_another_batch_starts_anew():
    path = Path()
    arrive(path, 1.0, 10.0)
    arrive(path, 0.9, 9.0)
    assert arrive(path, 0.8, 0.0, 0.0)[1] == set()


def test_it_keeps_copies_of_two_places():
    path, x = Path(), torch.tensor([[1.0], [2.0]])
    for sigma in (1.0, 0.9, 0.8):
        path.arrive(torch.tensor(sigma), x)
    assert path.nbytes == 2 * x.nbytes
    x.fill_(9.0)
    assert arrive(path, 0.7, 1.0, 2.0)[1] == set(), "the sampler may write into its latent"


def test_anchors_of_before_a_jump_are_dropped_and_drafts_begin_with_new_ones():
    session = Session(SpecaConfig(1.0), [1.0 - i / 12 for i in range(13)])
    reasons = []
    for step in range(12):
        session.open_prediction(1.0 - step / 12, jumped={1} if step == 5 else ())
        call = session.open_call(["a", "b"], [0, 1], [0, 0])
        _, rejected = call.judge(call.draft_rows, [0.01] * len(call.draft_rows))
        call.observe(EXIT, call.full_rows, [torch.ones(1)] * len(call.full_rows))
        reasons.append([row.reason for row in call.close(0.0).rows])
        assert not rejected
    assert [a for a, _ in reasons[3:9]] == ["draft"] * 6
    assert [b for _, b in reasons[3:9]] == ["draft", "draft", "jump", "anchors", "anchors", "draft"]
