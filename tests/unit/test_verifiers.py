import pytest
import torch

from speca_core.tensors import relative_error
from speca_core.verifiers import VERIFIERS

every_verifier = pytest.mark.parametrize(
    "verifier", [v() for v in VERIFIERS.values()], ids=lambda v: v.name
)


def test_relative_error_by_hand():
    # |(3,1)-(1,2)| = sqrt(5), |(1,2)| = sqrt(5)
    assert relative_error(
        torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    ).item() == pytest.approx(1.0)
    # |(0.3,0)| / |(3,4)|
    assert relative_error(
        torch.tensor([[3.3, 4.0]]), torch.tensor([[3.0, 4.0]])
    ).item() == pytest.approx(0.06, rel=1e-5)


@every_verifier
def test_rows_do_not_see_each_other(verifier):
    reference = torch.ones(3, 4, 2)
    forecast = reference.clone()
    forecast[1] *= 1.5
    assert verifier.error(forecast, reference).tolist() == pytest.approx([0.0, 0.5, 0.0])


@every_verifier
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_error_is_float32_and_survives_half_precision(verifier, dtype):
    reference = torch.full((1, 4096), 100.0, dtype=dtype)  # the sum of squares overflows float16
    error = verifier.error(reference * 1.25, reference)
    assert error.dtype == torch.float32 and error.item() == pytest.approx(0.25)


@every_verifier
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_can_only_be_rejected(verifier, bad):
    reference = torch.ones(2, 3)
    forecast = reference.clone()
    forecast[0, 0] = bad
    assert verifier.error(forecast, reference).tolist() == [float("inf"), 0.0]
    assert verifier.error(reference, forecast)[0].item() == float("inf")


@every_verifier
def test_an_all_zero_reference_does_not_divide_by_zero(verifier):
    assert verifier.error(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0.0


@every_verifier
def test_inputs_are_left_alone(verifier):
    forecast, reference = torch.rand(2, 5), torch.rand(2, 5)
    before = forecast.clone(), reference.clone()
    verifier.error(forecast, reference)
    assert torch.equal(forecast, before[0]) and torch.equal(reference, before[1])


def test_embedded_compares_a_line_with_a_parabola():
    low, high = VERIFIERS["embedded"]().embedded_pair([0.0, 1.0, 2.0], 3.0)
    assert low == pytest.approx([0.0, -1.0, 2.0]) and high == pytest.approx([1.0, -3.0, 3.0])


def test_embedded_makes_do_with_two_anchors_and_ignores_a_fourth():
    embedded = VERIFIERS["embedded"]()
    assert [len(w) for w in embedded.embedded_pair([0.0, 1.0], 2.0)] == [2, 2]
    low, high = embedded.embedded_pair([0.0, 5.0, 6.0, 7.0], 8.0)
    assert low == pytest.approx([0.0, 0.0, -1.0, 2.0]) and high == pytest.approx(
        [0.0, 1.0, -3.0, 3.0]
    )


@pytest.mark.parametrize("name", ["last_block", "first_block", "none"])
def test_block_checks_have_no_pair(name):
    assert VERIFIERS[name]().embedded_pair([0.0, 1.0], 2.0) is None
