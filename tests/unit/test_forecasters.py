"""Every forecaster of the table keeps the same contract; then each one's own arithmetic by hand."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speca_core.forecasters import (
    FORECASTERS,
    AdamsBashforth,
    Chebyshev,
    Fitted,
    FoCa,
    Hermite,
    Newton,
    Reuse,
    Spline,
    Taylor,
)
from speca_core.forecasters.base import Linear
from speca_core.settings import settings_of

EVERY = [
    settings(**({"order": order} if "order" in settings_of(settings) else {}))
    for settings in FORECASTERS.values()
    for order in ((0, 1, 2, 3) if "order" in settings_of(settings) else (None,))
]


def case_name(forecaster):
    return f"{forecaster.name}-{getattr(forecaster, 'order', '')}"


LINEAR = [forecaster for forecaster in EVERY if isinstance(forecaster, Linear)]
every_linear_forecaster = pytest.mark.parametrize("forecaster", LINEAR, ids=case_name)
every_forecaster = pytest.mark.parametrize("forecaster", EVERY, ids=case_name)


@st.composite
def places(draw):
    gaps = draw(st.lists(st.floats(0.25, 8.0), min_size=12, max_size=12))
    coordinates = [sum(gaps[:i]) for i in range(12)]
    return coordinates, draw(st.floats(0.1, 8.0))


@every_linear_forecaster
@given(where=places())
def test_weights_sum_to_one(forecaster, where):
    coordinates, ahead = where
    coordinates = coordinates[-forecaster.depth :]
    weights = forecaster.weights(coordinates, coordinates[-1] + ahead)
    assert len(weights) == len(coordinates)
    assert sum(weights) == pytest.approx(1.0, abs=1e-6 * max(map(abs, weights)))


def follows_lines(forecaster):
    """Of order one and up; with damping, of order two, because it mixes in the order below."""
    if forecaster.name in ("spline", "adams", "foca", "fitted"):
        return True
    damped = getattr(forecaster, "damping", 0) > 0
    return getattr(forecaster, "order", 0) >= (2 if damped else 1)


@pytest.mark.parametrize("forecaster", filter(follows_lines, EVERY), ids=case_name)
@given(where=places(), slope=st.floats(-5, 5), offset=st.floats(-5, 5))
def test_forecasters_of_order_one_and_up_are_exact_on_lines(forecaster, where, slope, offset):
    coordinates, ahead = where
    coordinates = coordinates[-forecaster.depth :]
    at = coordinates[-1] + ahead
    anchors = [torch.tensor([offset + slope * s], dtype=torch.float64) for s in coordinates]
    weights = forecaster.weights(coordinates, at) if isinstance(forecaster, Linear) else [10.0]
    forecast = forecaster.forecast(coordinates, anchors, at).item()
    assert forecast == pytest.approx(
        offset + slope * at, abs=1e-5 * max(1.0, *map(abs, weights)) * (1 + abs(slope) * at)
    )


@every_forecaster
def test_enough_anchors_fit_into_the_history(forecaster):
    assert 1 <= forecaster.min_anchors <= forecaster.depth


@every_forecaster
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_constant_feature_is_forecast_exactly(forecaster, dtype):
    coordinates = [0.0, 1.0, 2.0, 3.0][: forecaster.depth]
    anchors = [torch.full((3, 2), 0.5, dtype=dtype)] * len(coordinates)
    forecast = forecaster.forecast(coordinates, anchors, 4.0)
    assert forecast.dtype == dtype
    torch.testing.assert_close(forecast, anchors[0], rtol=1e-6, atol=0)


@every_forecaster
def test_settings_are_immutable_and_round_trip(forecaster):
    values = {k: v for k, v in forecaster.to_dict().items() if k != "name"}
    assert type(forecaster)(**values) == forecaster
    with pytest.raises(dataclasses.FrozenInstanceError):
        forecaster.name = "other"


def test_reuse():
    assert Reuse().weights([4.0], 9.0) == [1.0]


def test_taylor_by_hand_on_even_anchors():
    # F = s^2 at 0, 2, 4: D1 = (16-4)/2 = 6, D2 = (6-2)/2 = 2; at 6: 16 + 6*2 + 2*4/2 = 32. The true
    # value is 36.
    weights = Taylor(2).weights([0.0, 2.0, 4.0], 6.0)
    assert sum(w * s**2 for w, s in zip(weights, [0.0, 2.0, 4.0], strict=True)) == pytest.approx(
        32.0
    )


def test_taylor_divides_by_the_newest_gap_only():
    # Uneven anchors 0, 3, 4 of F = s^2: D1 = 7 (newest), 3 (before); the ladder's D2 is (7-3)/1 =
    # 4, not 2.
    weights = Taylor(2).weights([0.0, 3.0, 4.0], 5.0)
    assert sum(w * s**2 for w, s in zip(weights, [0.0, 3.0, 4.0], strict=True)) == pytest.approx(
        16 + 7 + 4 / 2
    )


@given(where=places(), a=st.floats(-2, 2), b=st.floats(-2, 2), c=st.floats(-2, 2))
def test_newton_2_is_exact_on_parabolas_however_uneven_the_gaps(where, a, b, c):
    coordinates, ahead = where
    coordinates = coordinates[-3:]
    at = coordinates[-1] + ahead
    weights = Newton(2, 0.0).weights(coordinates, at)
    value = sum(w * (a + b * s + c * s * s) for w, s in zip(weights, coordinates, strict=True))
    assert value == pytest.approx(
        a + b * at + c * at * at, abs=1e-6 * max(map(abs, weights)) * (1 + at * at * 3)
    )


def test_newton_by_hand():
    assert Newton(1, 0.0).weights([1.0, 3.0], 4.0) == pytest.approx([-0.5, 1.5])
    assert Newton(2, 0.0).weights([0.0, 1.0, 2.0], 3.0) == pytest.approx([1.0, -3.0, 3.0])
    assert Newton(3, 0.0).weights([0.0, 1.0, 2.0, 3.0], 4.0) == pytest.approx(
        [-1.0, 4.0, -6.0, 4.0]
    )


def test_damping_takes_a_share_of_the_next_lower_order():
    # Order 2: 1 -3 3, order 1: 0 -1 2; the mean of both
    assert Newton(2, 0.5).weights([0.0, 1.0, 2.0], 3.0) == pytest.approx([0.5, -2.0, 2.5])
    assert Newton(2, 1.0).weights([0.0, 1.0, 2.0], 3.0) == pytest.approx([0.0, -1.0, 2.0])


def test_newton_interpolates_where_a_sampler_goes_back():
    assert Newton(1, 0.0).weights([1.0, 3.0], 2.0) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("coordinates", "at", "newest_first"),
    [
        ([0, 1, 2], 3, [2.25, -1.5, 0.25]),
        ([0, 1, 2, 3], 4, [2.2667, -1.6, 0.4, -0.0667]),
        ([0, 1, 2, 3], 5, [3.5333, -3.2, 0.8, -0.1333]),
        ([1, 2, 5, 8], 10, [1.8506, -1.1034, 0.4598, -0.2069]),
        ([0, 2], 3, [1.5, -0.5]),
    ],
)
def test_spline_by_hand(coordinates, at, newest_first):
    assert Spline().weights(coordinates, at)[::-1] == pytest.approx(newest_first, abs=1e-4)


def test_beyond_the_newest_anchor_the_spline_is_straight():
    near, far, farther = (Spline().weights([0.0, 1.0, 3.0, 4.0], at) for at in (4.0, 5.0, 6.0))
    assert [2 * b - a for a, b in zip(near, far, strict=True)] == pytest.approx(farther)


def test_adams_and_foca_on_even_anchors_are_one_formula():
    assert AdamsBashforth().weights([0.0, 1.0, 2.0], 3.0) == pytest.approx([0.5, -2.0, 2.5])
    assert FoCa().weights([0.0, 1.0, 2.0], 3.0) == pytest.approx([0.5, -2.0, 2.5])


def test_adams_by_hand_on_uneven_anchors():
    # slopes (F0-F1)/1 and (F1-F2)/2, k = 2, h1 = 1: F0 + 2 (2 f0 - f1)
    assert AdamsBashforth().weights([0.0, 2.0, 3.0], 5.0) == pytest.approx([1.0, -5.0, 5.0])


def test_foca_by_hand_on_uneven_anchors():
    # F = s^2 at 0, 2, 3: the parabola's slope at 3 is 6, and the line reaches 9 + 2 * 6 at 5.
    places = [0.0, 2.0, 3.0]
    assert sum(
        w * s * s for w, s in zip(FoCa().weights(places, 5.0), places, strict=True)
    ) == pytest.approx(21.0)


def test_hermite_is_taylor_at_a_contracted_horizon():
    # 2 sigma^2 = 1: F0 + k D1 + (k^2/2 - 1/2) D2; at k = 1 the curvature cancels.
    assert Hermite(0.5**0.5).weights([0.0, 1.0, 2.0], 3.0) == pytest.approx([0.0, -1.0, 2.0])


def test_a_strong_ridge_makes_chebyshev_reuse_the_newest_anchor():
    assert Chebyshev(ridge=10.0, degree=1).weights([0.0, 1.0, 2.0], 2.001)[-1] == pytest.approx(
        1.0, abs=1e-2
    )


def test_a_weak_ridge_makes_chebyshev_follow_a_line():
    places = [0.0, 1.0, 2.0, 3.0]
    assert sum(
        w * s
        for w, s in zip(Chebyshev(ridge=0.001, degree=1).weights(places, 4.0), places, strict=True)
    ) == pytest.approx(4, abs=0.01)


def test_fitted_finds_how_much_of_the_curvature_lasts():
    coordinates = [0.0, 1.0, 2.0, 3.0]
    parabola, line_at_the_end = (
        torch.tensor([0.0, 1.0, 4.0, 9.0]),
        torch.tensor([0.0, 1.0, 4.0, 7.0]),
    )
    trust = Fitted(ridge=0.0)
    # s^2: the parabola foretold the newest anchor, so the next is 16
    assert trust.forecast(coordinates, list(parabola[:, None]), 4.0).item() == pytest.approx(16.0)
    # 0 1 4 7: at 3 the line 2 s - ... = 7 was right and the parabola's 9 was not, so the line goes
    # on: 10
    assert trust.forecast(coordinates, list(line_at_the_end[:, None]), 4.0).item() == pytest.approx(
        10.0
    )
    # with an endless pull it is the even mix of 10 and the parabola through 1 4 7, which is the
    # same line
    assert Fitted(ridge=10.0).forecast(
        coordinates[1:], list(parabola[1:, None]), 4.0
    ).item() == pytest.approx((14.0 + 16.0) / 2)


def test_fitted_falls_back_to_reuse_where_features_turn():
    coordinates = [0.0, 1.0, 2.0, 3.0]
    # At 3 the line said 3, so y = -1 where a = 1: nothing of it is kept.
    anchors = list(torch.tensor([0.0, 1.0, 2.0, 1.0])[:, None])
    assert Fitted(ridge=0.0).forecast(coordinates, anchors, 4.0).item() == pytest.approx(1.0)
    half = list(torch.tensor([0.0, 1.0, 2.0, 2.5])[:, None])  # half of the step that was foretold
    assert Fitted(ridge=0.0).forecast(coordinates, half, 4.0).item() == pytest.approx(
        2.5 + 0.5 * (0.5 - 0.5 * 0.5)
    )


def test_fitted_channels_are_fitted_apart():
    coordinates = [0.0, 1.0, 2.0, 3.0]
    anchors = [
        torch.tensor([[a, b]])
        for a, b in zip((0.0, 1.0, 4.0, 9.0), (0.0, 1.0, 4.0, 7.0), strict=True)
    ]
    assert Fitted(ridge=0.0, channels=1).forecast(coordinates, anchors, 4.0).tolist() == [
        pytest.approx([16.0, 10.0])
    ]
