"""Memory: announced to ComfyUI to the byte, and where it runs out, a run ends as the plain model
would."""

import functools
import gc
import math
import sys
import weakref
from pathlib import Path

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from conftest import PACK
from models import build, features, sample_flux, sample_tiny, trained_flux
from speca_pack.nodes.runtime import memory
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.page.diagnose import diagnose
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.nodes.runtime.subjects import RUNS
from speca_pack.speca_core import SpecaConfig, tensors
from speca_pack.speca_core.anchors import FeatureHistory
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import FORECASTERS
from speca_pack.speca_core.report_json import write
from speca_pack.speca_core.tensors import weighted_sum
from speca_pack.speca_core.verifiers import VERIFIERS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

STEPS = 8
BUDGET = Threshold(warmup=2, max_streak=2)
WAYS = {
    "flux": features(math.inf, verifier=VERIFIERS["first_block"](), budget=BUDGET),
    "sd3": features(math.inf, verifier=VERIFIERS["last_block"](), budget=BUDGET),
    "ltxav": features(math.inf, verifier=VERIFIERS["embedded"](), budget=BUDGET),
    "wan_vace": features(
        math.inf, verifier=VERIFIERS["embedded"](), budget=BUDGET, level="prediction"
    ),
}
each_way = pytest.mark.parametrize("name", WAYS)


@pytest.fixture(scope="module")
def model():
    return functools.lru_cache(None)(build)


def sample(patcher, name, **kwargs):
    return sample_tiny(patcher, name, **({"steps": STEPS} | kwargs))


def allocations(function, outputs, inputs):
    """The tensors among `outputs` whose memory is none of the `inputs`'."""
    given = {
        leaf.untyped_storage().data_ptr()
        for leaf in tree_leaves(inputs)
        if isinstance(leaf, torch.Tensor)
    }
    made = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    return [tensor for tensor in made if tensor.untyped_storage().data_ptr() not in given]


def ours():
    """The line of the pack that the present operation was asked for, or None if something else
    asked for it."""
    frame = sys._getframe(2)
    while frame and (
        "/torch/" in frame.f_code.co_filename or frame.f_code.co_filename.startswith("<")
    ):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    # The sampler is tried before the run, in kilobytes; where that fails nothing is corrected
    # later.
    tried = path.name in ("sampler_response.py", "samplers.py", "sampling.py")
    own = {PACK / "speca_core", PACK / "nodes"} & {*path.parents}
    return f"{path.name}:{frame.f_lineno}" if own and not tried else None


class Allocations(TorchDispatchMode):
    """Counts what our own code allocates; the one with number `at` finds no memory."""

    def __init__(self, at=None):
        super().__init__()
        self.at = at
        self.places = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        if (place := ours()) and allocations(func, outputs, (args, kwargs)):
            self.places.append(place)
            if len(self.places) - 1 == self.at:
                raise torch.OutOfMemoryError("injected")
        return outputs


def stopping_at(kind, call):
    """A kind of run that drops its cache by itself when it is about to make this call."""

    class StoppingRun(kind):
        def predict(self, executor, x, timestep, model_options, seed):
            if self.session.caching and len(self.session.report.calls) == call:
                self.session.predict(timestep.flatten()[0], x)
                self.session.stop_caching()
            return super().predict(executor, x, timestep, model_options, seed)

    return StoppingRun


def fail(patcher, name, choose):
    """Let each chosen allocation fail: from that prediction on, the run is the plain model's."""
    config = WAYS[name]
    fast = accelerate(patcher, config)
    run = functools.partial(sample, fast, name, images=[0])
    with Allocations() as counted:
        expected = run()
    whole = find(expected)
    assert whole.count("accepted") and whole.out_of_memory is None
    references = {}
    for at in choose(counted.places):
        with Allocations(at):
            latent = run()
        report, place = find(latent), counted.places[at]
        call = report.out_of_memory
        assert call is not None, place
        later = [row for record in report.calls[call:] for row in record.rows]
        assert later and {(row.verdict, row.reason) for row in later} == {("computed", "memory")}
        assert report.finished and [record.index for record in report.calls] == list(
            range(len(whole.calls))
        )
        assert (
            f"out of memory at call {call}" in report.summary
            and write(report)["out_of_memory"] == call
        )
        if call not in references:
            kind = stopping_at(RUNS[config.effective_level], call)
            stopping = accelerate(patcher, config, run=kind)
            references[call] = sample(stopping, name, images=[0])
        assert torch.equal(latent, references[call]), place
    assert torch.equal(run(), expected), "the next run caches again"


@each_way
def test_an_allocation_that_fails_ends_the_caching_and_not_the_run(model, name):
    """At every line of ours that allocates."""

    def each_line_once(places):
        numbers = {place: number for number, place in enumerate(places)}
        assert len(numbers) >= 6
        return numbers.values()

    fail(model(name), name, each_line_once)


@pytest.mark.long
@each_way
def test_any_allocation_that_fails_ends_the_caching_and_not_the_run(model, name):
    """At every line of ours, every time."""
    fail(model(name), name, lambda places: range(len(places)))


def test_what_was_kept_is_free_when_the_plain_call_begins(model, monkeypatch):
    """Also if it is the model itself that finds no memory, or something between its calls."""
    kept, attempts = [], []
    record = FeatureHistory.record

    def recording(self, at, feature):
        record(self, at, feature)
        kept.append(weakref.ref(self.anchors[-1]))

    def short_once(executor, *args, **kwargs):
        attempts.append(1)
        if len(attempts) == 5:
            raise torch.OutOfMemoryError("injected")
        if len(attempts) == 6:
            gc.collect()
            assert kept and not [anchor for anchor in kept if anchor() is not None]
        return executor(*args, **kwargs)

    monkeypatch.setattr(FeatureHistory, "record", recording)
    fast = accelerate(model("flux"), WAYS["flux"])
    fast.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "another pack", short_once)
    latent = sample(fast, "flux")
    assert len(attempts) == STEPS + 1 and find(latent).out_of_memory == 4 and find(latent).finished


def test_a_model_that_does_not_fit_at_all_fails_as_it_does_without_us(model):
    raised, diffusion_model = [], model("flux").model.diffusion_model

    def short(*_):
        raised.append(torch.OutOfMemoryError("injected"))
        raise raised[-1]

    fast = accelerate(model("flux"), WAYS["flux"])
    expected = sample(fast, "flux")
    hook = diffusion_model.single_blocks[1].register_forward_pre_hook(short)
    try:
        with pytest.raises(comfy.model_management.OOM_EXCEPTION) as error:
            sample(fast, "flux")
    finally:
        hook.remove()
    assert error.value is raised[-1] and len(raised) == 2, "once with anchors, once without"
    assert "double_blocks" not in vars(diffusion_model)
    assert torch.equal(sample(fast, "flux"), expected)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="out of luck"):
        memory.attempt(lambda: (_ for _ in ()).throw(RuntimeError("out of luck")))


@pytest.fixture
def estimates(monkeypatch):
    """The (wanted, least) bytes of each run, as ComfyUI computed them."""
    found, load = [], comfy.model_management.load_models_gpu

    def recording(*args, **kwargs):
        found.append((kwargs["memory_required"], kwargs["minimum_memory_required"]))
        return load(*args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", recording)
    for remembered in ("_measured", "_ran_out"):
        monkeypatch.setattr(memory, remembered, getattr(memory, remembered).__class__())
    return found


@each_way
def test_the_anchors_are_announced_to_the_byte(model, name, estimates):
    sample(model(name), name)
    fast = accelerate(model(name), WAYS[name])
    first, second, one, half = (
        sample(fast, name),
        sample(fast, name),
        sample(fast, name, images=[0]),
        sample(fast, name, steps=4, images=[0]),
    )
    plain, unknown, known, scaled, shorter = estimates
    size = find(first).cache_bytes
    assert size > 0 and find(second).cache_bytes == size
    assert unknown == plain
    assert known == (plain[0] + size, plain[1] + size)
    sample(model(name), name, images=[0])
    alone = estimates[-1]
    assert (
        scaled == (alone[0] + size // 2, alone[1] + size // 2)
        and find(one).cache_bytes == size // 2
    )
    assert shorter == scaled and find(half).cache_bytes <= size // 2
    sample(model(name), name)
    assert estimates[-1] == plain and "memory_required" not in vars(model(name).model), (
        "it is gone afterwards"
    )


def test_anchors_that_do_not_fit_beside_the_weights_go_to_the_host(model, monkeypatch, estimates):
    """From the second run on: the first tells how large they are. Here the host is the device; what
    is decided is the same."""
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(memory, "spare", lambda patcher, need: room)
    monkeypatch.setattr(memory, "work_of", lambda patcher, need: 0.0)
    fast = accelerate(model("flux"), WAYS["flux"])
    latents, places = [], []
    room = 0
    for beside in (0, -1):
        latents.append(sample(fast, "flux"))
        report = find(latents[-1])  # at once: equal latents have one report, the newest
        places.append(report.placement)
        room = report.cache_bytes + beside
    latents.append(sample(fast, "flux"))
    assert [*places, find(latents[-1]).placement] == ["device", "device", "host"]
    plain, fits, short = estimates
    assert (
        fits == (plain[0] + report.cache_bytes, plain[1] + report.cache_bytes) and short == plain
    ), "for the host nothing is announced"
    assert torch.equal(latents[0], latents[1]) and torch.equal(latents[1], latents[2])
    assert find(latents[-1]).cache_bytes == report.cache_bytes and "on the host" in diagnose(
        find(latents[-1])
    )


@pytest.mark.parametrize(("share", "host"), [(0.04, False), (0.06, True)])
def test_a_few_latents_stay_where_they_are(model, monkeypatch, share, host):
    """Beside weights that leave no room anyway, they push nothing off that would be missed."""
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(memory, "spare", lambda patcher, need: -1.0)
    need = memory.need_of(model("flux"), WAYS["flux"], (1, 16, 8, 8), {"positive": [1]})
    size = share * memory.work_of(model("flux"), need)
    assert memory.on_host(model("flux"), need, int(size)) == host


@pytest.fixture
def untouched(tmp_path):
    """The trained Flux behind an untouched node whose profiles are empty; of two images."""
    flux, store = trained_flux(), ProfileStore(tmp_path / "profiles")

    def run(threshold=0.05, sampler="euler"):
        fast = accelerate(flux, SpecaConfig(threshold=threshold), profiles=store)
        return find(sample_flux(fast, sampler=sampler))

    return run


LATENTS = 2 * 16 * 16 * 16 * 4  # bytes of the two images' latents


def test_the_untouched_node_keeps_six_latents(untouched):
    """The first one, three anchors, where the sampler arrives, and what it was told unrepaired."""
    untouched()
    served = untouched()
    assert served.count("accepted") and served.repaired
    assert served.cache_bytes == 6 * LATENTS + 4 * 2


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_the_untouched_node_is_announced_to_the_byte_from_the_first_run_on(
    untouched, sampler, estimates
):
    runs = [untouched(0.0), untouched(sampler=sampler), untouched(sampler=sampler)]
    assert [run.profile and run.profile["state"] for run in runs] == ["learning", *["served"] * 2]
    trained = trained_flux()
    sample_flux(trained)
    *announced, plain = estimates
    for run, (wanted, least) in zip(runs, announced, strict=True):
        assert (wanted, least) == (plain[0] + run.cache_bytes, plain[1] + run.cache_bytes)


def test_threshold_zero_keeps_nothing(model):
    """Where it does not teach, either."""
    for level in ("features", "prediction"):
        config = features(0.0, level=level, forecaster=FORECASTERS["newton"]())
        report = find(sample(accelerate(model("flux"), config), "flux"))
        assert report.cache_bytes == 0 and len(report.calls) == STEPS
        assert {row.reason for call in report.calls for row in call.rows} == {"zero_tolerance"}


def test_where_memory_ran_out_the_next_run_keeps_its_anchors_on_the_host(
    model, monkeypatch, estimates
):
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(memory, "spare", lambda patcher, need: math.inf)
    fast, record = accelerate(model("flux"), WAYS["flux"]), FeatureHistory.record

    def short(self, at, feature):
        if self.store is None:
            raise torch.OutOfMemoryError("injected")
        record(self, at, feature)

    monkeypatch.setattr(FeatureHistory, "record", short)
    assert find(sample(fast, "flux")).out_of_memory == 0
    second = find(sample(fast, "flux"))
    assert second.placement == "host" and second.out_of_memory is None and second.count("accepted")


@pytest.mark.parametrize("weights", [0, 10**12])
def test_what_a_device_has_to_spare(model, weights, monkeypatch):
    patcher = model("flux")
    need = memory.need_of(patcher, WAYS["flux"], (1, 16, 8, 8), {"positive": [1]})
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda device: 10**12)
    monkeypatch.setattr(type(patcher), "model_size", lambda self: weights)
    work = (
        patcher.model.memory_required([2, 16, 8, 8])
        + comfy.model_management.extra_reserved_memory()
    )
    assert memory.spare(patcher, need) == 10**12 - weights - work


def test_weighted_sums_have_no_temporary_as_large_as_an_anchor(monkeypatch):
    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            outputs = func(*args, **(kwargs or {}))
            sizes.extend(tensor.nbytes for tensor in allocations(func, outputs, (args, kwargs)))
            return outputs

    anchors = [torch.randn(64, 128).to(torch.bfloat16) for _ in range(3)]
    whole = weighted_sum([0.5, -1.0, 1.5], anchors)
    monkeypatch.setattr(tensors, "PART", 1024)
    with Sizes():
        parts = weighted_sum([0.5, -1.0, 1.5], anchors)
    assert torch.equal(parts, whole)
    assert sorted(sizes)[-2:] == [4 * 1024, whole.nbytes], (
        "the result, and parts of 1024 numbers in float32"
    )


def test_a_run_that_kept_nothing_says_nothing_about_others(monkeypatch):
    monkeypatch.setattr(memory, "_measured", memory._measured.__class__())
    small, large = (memory.Need(("Flux",), (images, 16, 8, 8), 2) for images in (1, 2))
    memory.measured(small, 1000)
    memory.measured(large, 0)  # at threshold 0, or interrupted before its first call
    assert memory.expected(large) == 2000


def test_a_run_without_conditionings_says_nothing_about_others(monkeypatch):
    monkeypatch.setattr(memory, "_measured", memory._measured.__class__())
    none, some = (memory.Need(("Flux",), (1, 16, 8, 8), conds) for conds in (0, 2))
    memory.measured(none, 1000)
    assert memory.expected(some) == memory.expected(none) == 0
    memory.measured(some, 1000)
    memory.measured(some, 10)
    assert memory.expected(some) == 1000 and memory.expected(none) == 0
