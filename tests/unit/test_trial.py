import pytest
import torch

from speca_core.reaction import REACH, Reactions, reaction
from speca_core.trial import Trial, lead_at, ratio_at

TRIALS = (Trial(0.75, 1, 1.0), Trial(0.25, 3, 4.0))


def test_the_lead_is_the_nearest_trials():
    assert [lead_at(TRIALS, share) for share in (0.1, 0.4, 0.6, 1.0)] == [3, 3, 1, 1]
    assert lead_at((), 0.5) is None


def test_between_trials_the_ratio_is_on_a_straight_line_of_its_logarithm():
    assert [ratio_at(TRIALS, share) for share in (0.1, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(
        [4.0, 4.0, 2.0, 1.0, 1.0]
    )
    assert ratio_at((), 0.5) == 1.0


def test_a_reaction_is_the_part_along_the_error_and_the_rest():
    seen = Reactions()
    for i, sigma in enumerate((0.1, 0.2, 0.5, 0.9)):
        # Twice the error, and as large as the error across it.
        seen.add(sigma, torch.tensor([10.0**i, 0.0]), torch.tensor([2 * 10.0**i, 10.0**i]))
    rows = seen.rows()
    assert [sigma for sigma, *_ in rows] == [0.1, 0.2, 0.5, 0.9]
    assert all((linear, noise) == pytest.approx((2.0, 1.0)) for _, linear, noise in rows)
    measured = reaction([0.9, 0.3, 0.05], 3.5, True, rows)
    assert measured.linear.tolist() == pytest.approx([2.0] * 3)
    assert measured.noise.tolist() == pytest.approx([1.0] * 3)


def test_levels_far_apart_are_measured_each_for_itself():
    seen = Reactions()
    levels = [0.1 * i for i in range(1, 3 * REACH + 3)]
    for i, sigma in enumerate(levels):
        late = i >= len(levels) - REACH - 1
        seen.add(sigma, torch.tensor([1.0]), torch.tensor([5.0 if late else 1.0]))
    linear = [row[1] for row in seen.rows()]
    assert linear[0] == pytest.approx(1.0)
    assert linear[-1] == pytest.approx(5.0)


def test_where_no_latent_was_off_its_path_there_is_no_reaction():
    seen = Reactions()
    seen.add(0.5, torch.zeros(2), torch.ones(2))
    seen.add(0.6, torch.ones(2), torch.ones(2))
    assert len(seen.rows()) == 2  # the first hears its neighbour
    alone = Reactions()
    alone.add(0.6, torch.ones(2), torch.ones(2))
    assert alone.rows() == ()
