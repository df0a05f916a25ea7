"""A fault anywhere, at any time: the model is as before, nothing of ours is held, and the next run
does not notice.

Faults come from outside the product: every function of the pack, every block of the model, the
sampler's callback and foreign wrappers on both sides of ours are counted as they begin and end, and
so is every torch operation that our code asks for; one chosen place raises. One of the packs keeps
the options of the run, and a deep copy of them.
"""

import contextlib
import copy
import functools
import gc
import importlib
import math
import pkgutil
import random
import statistics
import sys
import traceback
import types
from collections import defaultdict

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from models import build, features, sample_tiny
from speca_pack import speca_core
from speca_pack.nodes import runtime
from speca_pack.nodes.runtime import harmless
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.blocks.proxy import resolve
from speca_pack.nodes.runtime.models.lookup import family_of
from speca_pack.nodes.runtime.page import events
from speca_pack.nodes.runtime.page.report_store import find
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.nodes.runtime.run import KEY
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.budgets import Threshold
from speca_pack.speca_core.forecasters import Newton
from speca_pack.speca_core.verifiers import VERIFIERS
from test_memory import ours
from torch.utils._python_dispatch import TorchDispatchMode

# Every dialect: two stacks and in-place blocks, no diffusion-model wrapper, modules between blocks,
# a ModuleDict, two streams in one; and the untouched node.
CASES = [
    ("flux", "first_block"),
    ("sd3", "last_block"),
    ("wan_vace", "embedded"),
    ("cosmos", "first_block"),
    ("ltxav", "embedded"),
    ("flux", "innovation"),
]
STEPS = 7
EXCEPTIONS = (RuntimeError, comfy.model_management.InterruptProcessingException, KeyboardInterrupt)


class Faults:
    """Counts the places that a run comes through, and raises at one of them."""

    def __init__(self):
        self.places = []
        self.at = None
        self.fault = None
        self.kept = None  # by a foreign pack, of the newest run

    def place(self, name):
        self.places.append(name)
        if len(self.places) - 1 == self.at:
            raise self.fault

    def arm(self, at, fault):
        self.places, self.at, self.fault = [], at, fault
        self.kept = None

    def keep(self, options):
        """As some packs do: both lead to the run while it lasts, and after."""
        self.kept = {**options, "transformer_options": {**options["transformer_options"]}}
        assert KEY in self.kept["transformer_options"]

    def callback(self, *_):
        self.place("the callback")
        self.kept = copy.deepcopy(self.kept)

    def around(self, function):
        name = function.__qualname__

        @functools.wraps(function)
        def counted(*args, **kwargs):
            self.place(f"before {name}")
            result = function(*args, **kwargs)
            self.place(f"after {name}")
            return result

        return counted


OURS = speca_core.__name__, runtime.__name__  # packages


def is_ours(function):
    own = (getattr(function, "__module__", None) or "").startswith(OURS)
    return own and isinstance(function, types.FunctionType)


@pytest.fixture
def faults(monkeypatch):
    """Every function and method of the pack counts, wherever it is imported."""
    counter = Faults()
    wrapped = functools.lru_cache(None)(counter.around)
    for package in (speca_core, runtime):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(found.name)
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(OURS)]
    values = [value for module in modules for value in vars(module).values()]
    classes = {v for v in values if isinstance(v, type) and v.__module__.startswith(OURS)}
    for owner in [*modules, *classes]:
        for name, value in list(vars(owner).items()):
            if is_ours(value) and not (
                name.startswith("__") and name != "__init__" and name != "__call__"
            ):
                monkeypatch.setattr(owner, name, wrapped(value))
    # Else a slow run sends more events than a fast one, and places change their numbers.
    monkeypatch.setattr(events, "PAUSE", 0.0)
    return counter


@pytest.fixture
def said(monkeypatch):
    """The warnings, as text alone: a record of the log holds the frames of what it tells of."""
    warnings = []
    monkeypatch.setattr(harmless.log, "warning", lambda text, *_, **__: warnings.append(text))
    return warnings


class Operations(TorchDispatchMode):
    """Those that our code asks for count, too."""

    def __init__(self, faults):
        super().__init__()
        self.faults = faults

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if place := ours():
            self.faults.place(f"{function} at {place}")
        return function(*args, **(kwargs or {}))


class OneLesson(ProfileStore):
    """Keeps the first profile as it is, so that all runs are alike."""

    def keep(self, key, profile):
        if not self.read(key):
            super().keep(key, profile)


def checking(name, verifier, model, faults, patcher):
    """The model behind a node whose threshold lets some drafts pass, and some not."""
    settings = {
        "forecaster": Newton(),
        "verifier": VERIFIERS[verifier](),
        "budget": Threshold(warmup=2, max_streak=2, decay=1.0),
    }
    unchecked = find(sample(accelerate(model, features(math.inf, **settings)), name, faults))
    errors = [row.error for call in unchecked.calls for row in call.rows if row.error is not None]
    threshold = statistics.median(errors)
    return accelerate(patcher, features(threshold, **settings))


def watched(name, verifier, faults, folder):
    """A tiny model with SpeCa between two foreign packs; its blocks and callbacks count, too."""
    model = build(name)
    foreign = model.clone()
    kinds = [WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL]
    if verifier != "innovation":  # a profile serves no foreign guidance
        kinds += [WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH]

    def add(to, who):
        for kind in kinds:

            def wrapper(executor, *args, kind=kind, **kwargs):
                faults.place(f"before {who} {kind}")
                if (who, kind) == ("inner pack", WrappersMP.OUTER_SAMPLE):
                    faults.keep(executor.class_obj.model_options)
                result = executor(*args, **kwargs)
                faults.place(f"after {who} {kind}")
                return result

            to.add_wrapper_with_key(kind, who, wrapper)

    add(foreign, "outer pack")
    if verifier == "innovation":
        fast = accelerate(foreign, SpecaConfig(0.2), profiles=OneLesson(folder))
    else:
        fast = checking(name, verifier, model, faults, foreign)
    add(fast, "inner pack")
    if verifier == "innovation":
        assert find(sample(fast, name, faults)).profile["state"] == "learning"
    diffusion_model = model.model.diffusion_model
    family = family_of(diffusion_model)
    for path in family.stacks:
        blocks = getattr(*resolve(diffusion_model, path))
        for block in blocks.values() if isinstance(blocks, torch.nn.ModuleDict) else blocks:
            block.register_forward_pre_hook(lambda *_: faults.place("before a block"))
            block.register_forward_hook(lambda *_: faults.place("after a block"))
    return model, fast


def sample(model, name, faults):
    """One image, so that a run is short."""
    with Operations(faults):
        return sample_tiny(model, name, [0], steps=STEPS, callback=faults.callback)


class State:
    """All that a run could leave behind in a model, but for where ComfyUI 0.33 writes what it
    samples."""

    def __init__(self, model):
        self.attributes = {path: {**vars(module)} for path, module in model.model.named_modules()}
        self.weights = {key: value.clone() for key, value in model.model.state_dict().items()}
        self.options = str(model.model_options)

    def check(self, model):
        for path, module in model.model.named_modules():
            before = self.attributes[path]
            if "latent_shapes" in before:
                before["latent_shapes"] = module.latent_shapes
            assert {key: id(value) for key, value in vars(module).items()} == {
                key: id(value) for key, value in before.items()
            }, path
        weights = model.model.state_dict()
        assert list(weights) == list(self.weights) and all(
            torch.equal(weights[key], kept) for key, kept in self.weights.items()
        )
        assert str(model.model_options) == self.options


def is_let_go_in(fault):
    """Whether a fault came while a run was let go of."""
    frames = (frame for frame, _ in traceback.walk_tb(fault.__traceback__))
    return any(frame.f_code is contextlib.closing.__exit__.__code__ for frame in frames)


def tensors_alive():
    """All that hold memory."""
    gc.collect()
    return [
        (tuple(thing.shape), thing.dtype)
        for thing in gc.get_objects()
        if isinstance(thing, torch.Tensor) and thing.untyped_storage().nbytes()
    ]


def spread(places, count):
    """`count` numbers of places: each kind of place in turn, early and late ones, the same in every
    session."""
    chooser = random.Random(1)
    by_name = defaultdict(list)
    for number, name in enumerate(places):
        by_name[name].append(number)
    for numbers in by_name.values():
        chooser.shuffle(numbers)
    names = sorted(by_name)
    chooser.shuffle(names)
    chosen = []
    while len(chosen) < count and any(by_name.values()):
        chosen += [by_name[name].pop() for name in names if by_name[name]]
    return chosen[:count]


def inject(name, verifier, faults, said, count, folder):
    model, fast = watched(name, verifier, faults, folder)
    expected = sample(fast, name, faults)
    plain = sample(model, name, faults)
    report = find(expected)
    wanted = ("computed", "accepted", *(["rejected"] if verifier != "innovation" else []))
    verdicts = {verdict: report.count(verdict) for verdict in wanted}
    assert all(verdicts.values()), f"a run that does everything was wanted: {verdicts}"
    faults.arm(None, None)
    assert torch.equal(sample(fast, name, faults), expected)
    places = faults.places
    chosen = spread(places, count)
    assert len(chosen) == count
    faults.arm(None, None)
    state = State(model)
    gc.collect()
    gc.freeze()  # what is there now is not ours: `tensors_alive` sees only what comes from here on
    try:
        for number, at in enumerate(chosen):
            fault = EXCEPTIONS[number % len(EXCEPTIONS)]("injected")
            faults.arm(at, fault)
            where, raised = places[at], None
            said.clear()
            try:
                made = sample(fast, name, faults)
            except EXCEPTIONS as error:
                raised = error
            if raised is None:  # a fault in the bookkeeping ends no run, and is said
                assert isinstance(fault, RuntimeError), f"{where} swallowed {fault!r}"
                assert "the picture is not touched" in "".join(said), where
                # Without its profile the run is plain.
                assert torch.equal(made, expected) or torch.equal(made, plain), where
                del made
            else:
                assert raised is fault, f"{where}: it came out as {raised!r}"
            if is_let_go_in(fault):
                faults.kept = None  # what somebody keeps is held on to where letting go fails
            # It holds the frames that it came through.
            fault.__traceback__ = fault.__context__ = None
            assert not tensors_alive(), where  # with all that the foreign pack has kept
            faults.arm(None, None)
            state.check(model)
            assert torch.equal(sample(fast, name, faults), expected), where
    finally:
        gc.unfreeze()


each_case = pytest.mark.parametrize(("name", "verifier"), CASES, ids=lambda v: v)


@each_case
def test_twelve_faults(name, verifier, faults, said, tmp_path):
    inject(name, verifier, faults, said, 12, tmp_path)


@pytest.mark.long
@each_case
def test_two_hundred_and_fifty_faults(name, verifier, faults, said, tmp_path, request):
    """Or as many as are asked for: `--faults 20`."""
    inject(name, verifier, faults, said, request.config.getoption("--faults"), tmp_path)
