import json

import pytest

from speca_core import ConfigError
from speca_core.plans import Plans

PLANS = Plans(3, [(0.5, (0,)), (0.1, (0, 2)), (0.001, (0, 1, 2))])


def test_a_plan_for_a_number_or_for_a_distance():
    assert PLANS.plan(2) == (0, 2)
    assert PLANS.plan(9) == (0, 1, 2)
    assert Plans(4, [(0.5, (0,)), (0.0, (0, 1, 2, 3))]).plan(3) == (0, 1, 2, 3)
    assert PLANS.plan_within(0.1) == (0, 2)
    assert PLANS.plan_within(0.0) == (0, 1, 2)
    assert PLANS.plan_within(1.0) == (0,)


def test_a_distance_between_two_plans():
    assert PLANS.distance(1.5) == pytest.approx(0.3)
    assert PLANS.distance(0.2) == 0.5 and PLANS.distance(7) == 0.001


def test_plans_come_back_from_json():
    again = Plans.read(json.loads(json.dumps(PLANS.to_json())))
    assert (again.turns, again.ladder) == (3, PLANS.ladder)


@pytest.mark.parametrize(
    "source",
    [
        None,
        [],
        [[0.5, 0], [0.1]],
        [[0.5, 0], [0.1, 0, 7]],
        [["0.5", 0]],
        [[0.5, 0, 0]],
        [0.5],
        [[0.5, 1]],
    ],
    ids=str,
)
def test_plans_that_no_run_has_made_are_refused(source):
    with pytest.raises(ConfigError, match=r"plans: found .*; expected"):
        Plans.read(source)


def test_too_many_plans_are_refused():
    with pytest.raises(ConfigError, match="plans"):
        Plans.read([[0.5, 0]] * 5000)
