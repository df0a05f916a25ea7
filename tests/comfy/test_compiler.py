"""ComfyUI's memory compiler (0.34 and later) replays what the blocks allocate: it must be off where
drafts leave blocks out, and everything that is kept must be outside of its records. A recorder
stands in its place."""

from contextlib import contextmanager
from types import SimpleNamespace

import comfy.cli_args
import pytest
from models import build, checked, features, sample_tiny
from speca_pack.nodes.runtime import compat
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.windows import marks_of
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.anchors import FeatureHistory
from speca_pack.speca_core.verifiers import VERIFIERS

FAMILY = "flux"
SWITCH = 0.85


@pytest.fixture(scope="module")
def model():
    return build(FAMILY)


@pytest.fixture
def switch(monkeypatch):
    """ComfyUI's arguments, as they are since 0.34."""
    monkeypatch.setattr(comfy.cli_args.args, compat.COMPILER_OFF, False, raising=False)
    return lambda: getattr(comfy.cli_args.args, compat.COMPILER_OFF)


def seen_in_blocks(model, config, switch, steps=6):
    """What the switch says whenever the model runs."""
    seen = []
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda *_: seen.append(switch()))
    try:
        latent = sample_tiny(accelerate(model, config), FAMILY, steps=steps)
    finally:
        hook.remove()
    return seen, find(latent)


@pytest.mark.parametrize(
    ("config", "off"),
    [(features(), True), (checked(), False), (SpecaConfig(0.0, level="features"), False)],
    ids=["features", "prediction", "threshold 0"],
)
def test_it_is_off_where_drafts_leave_blocks_out(model, switch, config, off):
    seen, report = seen_in_blocks(model, config, switch)
    assert report.finished and seen and set(seen) == {off}
    assert switch() is False, "as it was"


def test_it_is_on_again_after_a_fault(model, switch):
    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sample_tiny(accelerate(model, features()), FAMILY, steps=3, callback=fail)
    assert switch() is False


def test_a_comfyui_without_it_gets_no_such_argument(model, monkeypatch):
    monkeypatch.delattr(comfy.cli_args.args, compat.COMPILER_OFF, raising=False)
    seen, _ = seen_in_blocks(
        model, features(), lambda: hasattr(comfy.cli_args.args, compat.COMPILER_OFF)
    )
    assert seen and not any(seen)


@pytest.mark.parametrize("verifier", ["embedded", "first_block", "last_block"])
def test_what_is_kept_is_outside_of_its_records(model, monkeypatch, verifier):
    depth, kept = [0], []

    @contextmanager
    def pause():
        assert not depth[0], "ComfyUI's own does not count: the inner one would end the outer one"
        depth[0] += 1
        yield
        depth[0] -= 1

    record = FeatureHistory.record

    def recorded(self, at, feature):
        kept.append(depth[0])
        record(self, at, feature)

    monkeypatch.setattr(compat, "model_prefetch", SimpleNamespace(pause_malloc_graph=pause))
    monkeypatch.setattr(FeatureHistory, "record", recorded)
    config = features(verifier=VERIFIERS[verifier]())
    sample_tiny(accelerate(model, config), FAMILY, steps=6)
    assert kept and set(kept) == {1}


class Sparse:
    """As ComfyUI's sparse attention keeps its range."""

    def __init__(self, start, end):
        self.sigma_start, self.sigma_end = start, end

    def override(self, previous=None):
        def override(attention, *args, **kwargs):
            assert self.sigma_start > self.sigma_end
            around = () if previous is None else (attention,)
            return (previous or attention)(*around, *args, **kwargs)

        return override

    def patch(self, args, extra):
        return extra["original_block"](args)


def test_the_switch_is_found_in_an_override_of_attention():
    late, early = Sparse(0.5, 0.0), Sparse(1.0, 0.8)
    options = {"optimized_attention_override": late.override(early.override())}
    assert marks_of(options, [], [0.95, 0.1], float) == [0.8, 0.5]


@pytest.mark.parametrize("config", [features(1.0), checked(1.0)], ids=["features", "prediction"])
def test_where_sparse_attention_begins_anchors_go(model, config):
    """The first calls behind the switch are computed: those before are another model's."""
    sparse = model.clone()
    options = sparse.model_options["transformer_options"]
    options["optimized_attention_override"] = Sparse(SWITCH, 0.0).override()
    runs = [
        find(sample_tiny(accelerate(each, config), FAMILY, steps=20)) for each in (model, sparse)
    ]
    plain, switched = (
        [(call.sigma <= SWITCH, call.rows[0].verdict, call.rows[0].reason) for call in run.calls]
        for run in runs
    )
    behind = [i for i, (late, _, _) in enumerate(switched) if late]
    assert all(switched[i][1:] == ("computed", "warmup") for i in behind[:3])
    assert any(switched[i][1] == "accepted" for i in behind[3:])
    assert any(plain[i][1] == "accepted" for i in behind[:3])
    assert switched[: behind[0]] == plain[: behind[0]]
