"""What a run keeps, and where."""

import pytest
import torch

from speca_core import Session, SpecaConfig
from speca_core.anchors import HEAD_INPUT
from speca_core.gatherer import Gatherer
from speca_core.path_model import PathModel
from speca_core.reaction import Reaction
from speca_core.sampler_response import SamplerResponse

SIGMAS = (1.0, 0.75, 0.5, 0.25)
ADAMS = SamplerResponse(SIGMAS, ((-0.25, 0.0), *[(-0.375, 0.125)] * 3))
HOST = torch.device("meta")  # stands for it: nothing can be read there
SETTINGS = {
    "learning": lambda: {"gatherer": Gatherer()},
    "served": lambda: {"path": PathModel(torch.eye(5).double(), ADAMS, CALM)},
    "alone": dict,
}
CALM = Reaction(*torch.zeros(2, 4, dtype=torch.float64).unbind())


def tensors_in(value):
    """All tensors that an object leads to."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
    elif hasattr(value, "__dict__") and not isinstance(value, PathModel):
        yield from tensors_in(vars(value))


def begun(way, store=None, threshold=0.05):
    """A session after its first prediction, which was computed."""
    config = SpecaConfig(threshold)
    session = Session(
        config if way != "alone" else config.without_profile,
        (*SIGMAS, 0.0),
        response=ADAMS,
        **SETTINGS[way](),
    )
    if store is not None:
        session.place_anchors_on(store)
    x, slope = torch.ones(1, 2), torch.full((1, 2), 2.0)
    prediction = session.predict(torch.tensor(SIGMAS[0]), x)
    call = prediction.open_call(["image"], [0], [0])
    if session.gatherer is not None:
        session.gatherer.hear(SIGMAS[0], x, slope)
    elif session.speculates:
        call.observe(HEAD_INPUT, [0], [slope[0]])
    call.close(0.0)
    prediction.serve(x, x - slope)
    return session


@pytest.mark.parametrize("way", SETTINGS)
def test_all_of_it_is_kept_on_the_host_if_any_is(way):
    session = begun(way, HOST)
    session.shown = None, None  # the sampler has it, where it is
    kept = list(tensors_in(session))
    assert kept and {tensor.device for tensor in kept} == {HOST}


@pytest.mark.parametrize("way", SETTINGS)
def test_every_byte_is_counted(way):
    session = begun(way)
    session.shown = None, None
    counted = {id(tensor): tensor.nbytes for tensor in tensors_in(session)}
    assert session.cache_bytes == sum(counted.values()) == session.report.cache_bytes


def test_threshold_zero_keeps_nothing():
    session = begun("alone", threshold=0.0)
    assert not list(tensors_in(session.close() or session)) and session.report.cache_bytes == 0


@pytest.mark.parametrize("way", SETTINGS)
def test_a_closed_run_keeps_nothing(way):
    session = begun(way)
    session.close()
    assert not list(tensors_in(session)) and session.cache_bytes == 0
