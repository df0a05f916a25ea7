"""Some rows of a call, without ComfyUI."""

import torch
from speca_pack.nodes.runtime.rows import take


def test_rows_are_taken_from_everything_that_has_them():
    call = {
        "a": torch.arange(4),
        "b": [torch.arange(8).reshape(4, 2), None],
        "c": torch.arange(3),
        "d": 5,
        "shape": torch.Size([4, 2]),
    }
    some = take(call, [1, 3], 4)
    assert (
        some["a"].tolist() == [1, 3]
        and some["b"][0].tolist() == [[2, 3], [6, 7]]
        and some["b"][1] is None
    )
    assert some["c"] is call["c"] and some["d"] == 5 and some["shape"] == call["shape"]


def test_a_model_may_empty_the_lists_it_is_given():
    residuals = [torch.ones(2, 3)]
    control = {"output": residuals}
    taken = take(control, [0, 1], 2)
    assert taken["output"].pop() is residuals[0]
    assert len(residuals) == 1
