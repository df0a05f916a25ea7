import json
import math

import pytest
import torch

from speca_core import ConfigError
from speca_core.gatherer import Gatherer
from speca_core.profile import MOST_RUNS, Profile
from speca_core.trial import Trial

SIGMAS = (1.0, 0.75, 0.5, 0.25)


def profile(sigmas=SIGMAS, matrix=None, **told):
    size = len(sigmas) + 1
    matrix = torch.eye(size) if matrix is None else matrix
    rows, columns = torch.triu_indices(size, size)
    gram = tuple(matrix.double()[rows, columns].tolist())
    return Profile(
        **({"guidance": 3.5, "flow": True, "sigmas": tuple(sigmas), "gram": gram} | told)
    )


def test_a_plain_run_is_heard():
    gatherer = Gatherer()
    x = torch.tensor([[3.0, 0.0], [0.0, 1.0]])  # two images of two numbers
    gatherer.hear(1.0, x, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    gatherer.hear(0.5, x + 1, torch.tensor([[0.0, 2.0], [0.0, 2.0]]))
    heard = gatherer.profile(3.5, True)
    assert heard.sigmas == (1.0, 0.5)
    # Means over both images of inner products over two numbers.
    assert heard.matrix.tolist() == [[2.5, 1.0, 0.5], [1.0, 0.5, 0.5], [0.5, 0.5, 2.0]]


def test_a_level_that_was_heard_is_not_heard_again():
    gatherer = Gatherer()
    x = torch.ones(1, 2)
    for sigma in (1.0, 0.5, 0.5, 0.25, 0.25):  # Heun's
        gatherer.hear(sigma, x, x)
    assert gatherer.profile(1.0, True).sigmas == (1.0, 0.5, 0.25)


def test_a_large_latent_is_read_in_part():
    gatherer = Gatherer()
    for sigma in SIGMAS:
        gatherer.hear(sigma, torch.ones(1, 16, 128, 128), torch.full((1, 16, 128, 128), 2.0))
    assert gatherer.nbytes <= 5 * 4 * 65_536
    assert gatherer.profile(1.0, True).gram[:2] == pytest.approx((1.0, 2.0))


def test_what_is_no_whole_run_teaches_nothing():
    gatherer = Gatherer()
    gatherer.hear(1.0, torch.ones(2, 4), torch.ones(2, 4))
    assert gatherer.profile(1.0, True) is None  # one level
    gatherer.hear(0.5, torch.ones(3, 4), torch.ones(3, 4))  # another batch
    assert gatherer.profile(1.0, True) is None
    broken = Gatherer()
    for sigma in (1.0, 0.5):
        broken.hear(sigma, torch.ones(1, 4), torch.full((1, 4), math.nan))
    assert broken.profile(1.0, True) is None


def test_it_comes_back_from_json():
    known = {"reaction": ((0.1, -1.0, 2.0), (0.9, 4.0, 8.0)), "trials": (Trial(0.5, 2, 1.5),)}
    one = profile(runs=3, surprise=1.25, judged=40, **known)
    assert Profile.read(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"sigmas": [1.0, 0.5, 0.75, 0.25]},
        {"sigmas": [1.0, 0.5]},
        {"sigmas": [1.0] * 5000},
        {"sigmas": ["1", 0.5, 0.4, 0.3]},
        {"gram": [1.0] * 14},
        {"gram": [math.nan] * 15},
        {"gram": [1.0, 9.0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1]},  # <a, b> above |a| |b|
        {"gram": "gram"},
        {"runs": True},
        {"runs": -1},
        {"surprise": 0},
        {"guidance": None},
        {"reaction": [[0.5, 1.0, 1.0]]},
        {"reaction": [[0.9, 1.0, 1.0], [0.1, 1.0, 1.0]]},
        {"reaction": [[0.1, 1.0], [0.9, 1.0]]},
        {"reaction": 5},
        {"trials": [[0.5, 0, 1.0]]},
        {"trials": [[1.5, 2, 1.0]]},
        {"trials": [[0.5, 2, 0.0]]},
        {"trials": [[0.5, 2, 1.0]] * 100},
    ],
    ids=str,
)
def test_a_profile_that_no_run_has_made_is_refused(change):
    with pytest.raises(ConfigError, match=r"profile: found .*; expected"):
        Profile.read(profile().to_dict() | change)
    with pytest.raises(ConfigError, match="profile: found"):
        Profile.read([profile().to_dict()])


def test_at_its_own_levels_it_is_carried_as_it_is():
    z = torch.randn(5, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one = profile(matrix=z @ z.T)
    assert torch.allclose(one.carried(SIGMAS), one.matrix)


def test_a_level_between_is_interpolated_in_log_snr():
    one = profile()
    between = math.sqrt((0.25 / 0.75) * 1)  # half way from .75 to .5, in log (1 - s) / s
    carried = one.carried((1.0, 1 / (1 + between)))
    assert carried[2].tolist() == pytest.approx([0, 0, 0.5])  # unit vectors of .75 and .5
    assert carried[2, 2] == pytest.approx(0.5)


@pytest.mark.parametrize(("lowest", "known"), [(0.25, True), (0.12, True), (0.11, False)])
def test_it_knows_nothing_of_what_comes_below_its_last_level(lowest, known):
    """A run of twice as many steps ends at half of it. The second of two stages begins there."""
    assert (profile().carried((0.5, lowest)) is not None) == known


def test_a_run_that_begins_lower_begins_where_the_plain_run_came_by():
    carried = profile().carried((0.5, 0.25))
    # x = x_0 - v_0 / 4 - v_1 / 4, all of length 1.
    assert carried[0].tolist() == pytest.approx([1 + 2 / 16, 0, 0])


def test_what_was_never_seen_is_not_carried():
    one = profile(sigmas=(0.8, 0.5, 0.3))
    assert one.carried((1.0, 0.5)) is None  # begins above
    assert one.carried([0.8 - 0.1 * i for i in range(7)]) is None  # more than twice as fine
    assert one.carried((0.8, 0.8, 0.5, 0.5, 0.3, 0.3)) is not None  # Heun asks twice per level


def test_guidance():
    one = profile()
    assert one.serves(3.5, True) and one.serves(3.4, True) and one.serves(2.5, True)
    assert not one.serves(4.0, True)  # errors grow there in a way that it has not seen
    assert not one.serves(1.0, True)
    assert not one.serves(3.5, False)


def test_runs_are_averaged():
    one = profile().merged(profile(matrix=3 * torch.eye(5)))
    assert one.runs == 2 and one.gram[0] == 2.0
    old = profile(runs=10_000).merged(profile(matrix=(1 + MOST_RUNS) * torch.eye(5)))
    assert old.gram[0] == pytest.approx(2.0)  # a new run counts 1 / MOST_RUNS at least


def test_the_finer_run_and_the_one_that_begins_higher_are_kept():
    fine = profile(sigmas=(1.0, 0.8, 0.6, 0.4, 0.2))
    assert profile().merged(fine) == fine == fine.merged(profile())
    late = profile(sigmas=(0.5, 0.45, 0.4, 0.35, 0.3, 0.25))
    assert profile().merged(late) == profile() == late.merged(profile())


def test_what_was_tried_on_a_model_stays_known():
    known = {"trials": (Trial(0.5, 3, 0.9),), "reaction": ((0.2, -1.0, 2.0), (0.9, 3.0, 9.0))}
    for sigmas in ((1.0, 0.8, 0.6, 0.4, 0.2), (1.2, 0.75, 0.5, 0.25)):
        merged = profile(**known).merged(profile(sigmas))
        assert merged == profile(sigmas, **known)


def test_a_profile_spans_what_begins_no_higher_and_ends_little_lower():
    first, second, whole = (
        profile(sigmas=levels) for levels in ((1.0, 0.8, 0.6), (0.5, 0.3, 0.1), (1.0, 0.5, 0.1))
    )
    assert whole.spans(first.sigmas) and whole.spans(second.sigmas)
    assert not first.spans(whole.sigmas) and not second.spans(whole.sigmas)
    assert not first.spans((0.5, 0.1)) and not second.spans((0.6, 0.1))
    assert first.spans((0.9, 0.3))  # the last levels of a finer schedule


def test_surprise_is_a_geometric_mean():
    judged = profile(surprise=1.0, judged=0).judged_by([2.0, 8.0, math.inf])
    assert judged.surprise == pytest.approx(4.0) and judged.judged == 2
    assert judged.judged_by([0.5, 0.5]).surprise == pytest.approx(math.sqrt(2))
    assert profile().judged_by([]) == profile()


def test_other_pictures_are_expected_to_surprise_until_many_have_not():
    """1.2 squared counts as 100 innovations: a hundred of 1 bring it to 1.2."""
    assert profile().judged_by([1.0] * 100).surprise == pytest.approx(1.2)


def test_parts_of_a_row_count_alike_whatever_their_size():
    """Ten numbers of 1 and two of 3, laid end to end: the mean over parts is (1 + 9) / 2."""
    gatherer = Gatherer()
    gatherer.parts = 10, 2
    row = torch.tensor([[1.0] * 10 + [3.0] * 2])
    for sigma in (1.0, 0.5):
        gatherer.hear(sigma, row, row)
    assert gatherer.profile(1.0, True).gram == pytest.approx([5.0] * 6)
    assert gatherer.nbytes == gatherer.foreseen(row, (1.0, 0.5))
