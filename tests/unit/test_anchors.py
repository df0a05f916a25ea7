import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from speca_core.anchors import FeatureHistory
from speca_core.tensors import weighted_sum, weighted_sums


def test_keeps_the_newest_anchors_in_order():
    history = FeatureHistory(2)
    for at in (0.0, 1.0, 3.0):
        history.record(at, torch.full((2,), at))
    assert history.coordinates == (1.0, 3.0)
    assert [a[0].item() for a in history.anchors] == [1.0, 3.0]


def test_an_anchor_at_the_same_place_is_replaced():
    history = FeatureHistory(3)
    history.record(1.0, torch.tensor([1.0]))
    history.record(2.0, torch.tensor([2.0]))
    history.record(1.0 + 1e-9, torch.tensor([5.0]))
    assert history.has(1.0) and len(history.anchors) == 2
    assert [a.item() for a in history.anchors] == [2.0, 5.0]


def test_anchors_are_kept_elsewhere_and_come_back_for_use():
    elsewhere = torch.device("meta")
    history = FeatureHistory(2, store=elsewhere)
    for at in (0.0, 1.0, 3.0):
        history.record(at, torch.full((2,), at))
    assert [anchor.device for anchor in history.anchors] == [
        elsewhere
    ] * 2 and history.device == torch.device("cpu")
    here = FeatureHistory(3)
    for at in (0.0, 1.0, 3.0):
        here.record(at, torch.full((2,), at))
    here.device = elsewhere
    assert [anchor.device for anchor in here.at_hand(2)] == [elsewhere] * 2
    assert [anchor[0].item() for anchor in here.anchors] == [0.0, 1.0, 3.0]


def test_a_later_in_place_write_does_not_reach_the_anchor():
    history, stream = FeatureHistory(1), torch.ones(4)
    history.record(0.0, stream)
    stream += 1
    assert history.anchors[0].tolist() == [1, 1, 1, 1]


def test_a_row_of_a_batch_holds_only_its_own_memory():
    history, batch = FeatureHistory(1), torch.zeros(100, 8)
    history.record(0.0, batch[3])
    assert history.nbytes == 8 * 4 and history.anchors[0].untyped_storage().nbytes() == 8 * 4


def test_weighted_sum_by_hand():
    anchors = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor([10.0, 10.0])]
    assert weighted_sum([-1.0, 2.0, 0.0], anchors).tolist() == [5.0, 8.0]


def test_weighted_sum_accumulates_in_float32():
    # In bfloat16, 256 + 1 is 256: accumulating there would lose the small term.
    anchors = [
        torch.tensor([256.0], dtype=torch.bfloat16),
        torch.tensor([1.0], dtype=torch.bfloat16),
        torch.tensor([256.0], dtype=torch.bfloat16),
    ]
    total = weighted_sum([1.0, 1.0, -1.0], anchors)
    assert total.dtype == torch.bfloat16 and total.item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weighted_sum_keeps_shape_and_type(dtype):
    anchors = [torch.ones(2, 3, dtype=dtype)] * 2
    total = weighted_sum([0.25, 0.75], anchors)
    assert total.dtype == dtype and total.shape == (2, 3) and (total == 1).all()


def test_all_zero_weights_give_zeros():
    assert weighted_sum([0.0], [torch.ones(2)]).tolist() == [0.0, 0.0]
    assert weighted_sum([0.0], [torch.ones(2)], torch.full((2,), 9.0)).tolist() == [0.0, 0.0]


class Operations(TorchDispatchMode):
    """Names of what runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("first", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("last", [torch.float16, torch.bfloat16, torch.float32])
def test_anchors_of_other_types_are_summed_without_a_cast(first, last):
    generator = torch.Generator().manual_seed(0)
    anchors = [torch.randn(3, 5, generator=generator).to(dtype) for dtype in (first, last, last)]
    into, weights = torch.empty(3, 5), [0.3, -1.7, 2.1]
    with Operations() as seen:
        total = weighted_sum(weights, anchors, into)
    assert total is into and "_to_copy" not in seen.names
    exact = sum(w * anchor.double() for w, anchor in zip(weights, anchors, strict=True))
    torch.testing.assert_close(total.double(), exact, atol=1e-6, rtol=1e-6)


def test_sums_of_rows_lie_side_by_side():
    ones, twos = torch.ones(2), torch.full((2,), 2.0)
    rows = iter([([1.0], [ones]), ([0.5, -1.0], [ones, twos])])
    assert weighted_sums(rows, 2).tolist() == [[1.0, 1.0], [-1.5, -1.5]]
    assert len(weighted_sums([], 0)) == 0
    with pytest.raises(ValueError, match="no sum"):
        weighted_sums([([1.0], [ones]), ([1.0], [torch.ones(3)])], 2)
