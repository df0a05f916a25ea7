"""Published systems, each in two settings: `run.py bench --systems`. docs/methods.md names the
settings; what the node cannot do is written down here.

Forecasts are made at level prediction, also those of systems that forecast features: both levels
make pictures that are equally good (docs/benchmarks.md). Blocks check at level features. There a
rough bed would hand out its roughness for nothing, because it lies behind the last block.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from testbed import Bed  # first: it makes ComfyUI importable

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from floor import LEARNED, Patch
from gate import Anchor, adaptive, every, vde
from methods import DEFERRED, STRICT, core_cache
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.nodes.runtime.profiles import ProfileStore
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.budgets import Hindcast, Interval, Mask, Target, Threshold
from speca_pack.speca_core.forecasters import (
    AdamsBashforth,
    Chebyshev,
    Fitted,
    FoCa,
    Forecaster,
    Hermite,
    Reuse,
    Taylor,
)
from speca_pack.speca_core.verifiers import FirstBlock, LastBlock, NoCheck

Settings = dict[str, Any]
STEPS = 28  # of the runs that are measured

# Computed steps of 50, for FLUX.1-dev. Those of SeaCache and TeaCache are the steps that their
# gates choose most often.
MASKS: dict[str, tuple[Sequence[int], ...]] = {
    "BudCache": (
        (0, 1, 2, 3, 4, 6, 11, 15, 21, 29, 39, 45, 49),
        (0, 1, 2, 4, 7, 13, 20, 39, 49),
    ),
    "MeanCache": (
        (0, 1, 2, 3, 4, 6, 9, 13, 18, 25, 34, 43, 49),
        (0, 1, 2, 3, 4, 9, 19, 34, 49),
    ),
    "DPCache": (
        (0, 1, 2, 4, 7, 12, 19, 24, 30, 36, 41, 45, 49),
        (0, 1, 2, 5, 11, 20, 29, 40, 49),
    ),
    "SeaCache": ((0, 1, 2, 4, 6, 9, 13, 18, 25, 33, 41, 47, 49),),
    "TeaCache": ((0, 1, 5, 10, 14, 18, 23, 28, 33, 37, 41, 45, 49),),
}
SERVED: dict[str, Forecaster] = {"DPCache": Taylor(2), "SeaCache": Taylor(1)}  # others: reuse


def in_the_node() -> Iterator[tuple[str, Settings]]:
    """(name, settings) of the systems that are settings of the node."""

    def unchecked(forecaster: Forecaster, budget: Interval | Mask | Hindcast) -> Settings:
        return {
            "threshold": 1.0,
            "forecaster": forecaster,
            "verifier": NoCheck(),
            "budget": budget,
        }

    def mask(steps: int, computed: Sequence[int]) -> Mask:
        return Mask(computed=json.dumps({"steps": steps, "computed": [*computed]}))

    papers = (
        ("SpeCa, as published", STRICT, (0.03, 0.1)),
        ("SpeCa, as released", DEFERRED, (0.003, 0.01)),
    )
    for name, budget, thresholds in papers:
        for threshold in thresholds:
            yield (
                name,
                {
                    "threshold": threshold,
                    "forecaster": Taylor(2),
                    "verifier": LastBlock(),
                    "budget": budget,
                    "guided": False,
                },
            )
    forecasters: dict[str, Forecaster] = {
        "FORA": Reuse(),
        "TaylorSeer, order 1": Taylor(1),
        "TaylorSeer, order 2": Taylor(2),
        "FoCa": FoCa(),
        "PrediT, its predictor": AdamsBashforth(),
        "HiCache": Hermite(),
        "HyCa": Fitted(channels=True),
    }
    for name, forecaster in forecasters.items():
        for gap in (2, 3):
            yield name, unchecked(forecaster, Interval(interval=gap, max_streak=100))
    for growth in (0.0, 0.75):
        plan = mask(STEPS, sorted(adaptive(STEPS, growth)))
        yield "Spectrum", unchecked(Chebyshev(degree=4, ridge=0.1, anchors=10), plan)
    for name, forecaster in (("CG-Taylor", Taylor(1)), ("FBCache", Reuse())):
        for threshold in (0.03, 0.1):
            yield (
                name,
                {
                    "threshold": threshold,
                    "forecaster": forecaster,
                    "verifier": FirstBlock(),
                    "budget": Threshold(decay=1.0, warmup=2, max_streak=100),
                },
            )
    for threshold in (0.1, 0.2):
        budget = Hindcast(growth=1.0, max_streak=100)
        yield "SenCache", unchecked(Reuse(), budget) | {"threshold": threshold}
    for name, masks in MASKS.items():
        for computed in masks:
            yield f"{name}, its mask", unchecked(SERVED.get(name, Reuse()), mask(50, computed))


def systems(bed: Bed, store: ProfileStore) -> Iterator[tuple[str, Patch]]:
    """(name, patch) of every system in each of its settings that the bed can measure; first SpeCa
    with the profile that the store has."""
    for computed in (18, 16, 14, 11):
        ours = SpecaConfig(**LEARNED | {"budget": Target(speedup=STEPS / computed)})
        yield "SpeCa, target", lambda model, ours=ours: accelerate(model, ours, profiles=store)
    for name, settings in in_the_node():
        config = SpecaConfig(hindsight=False, **settings)
        if config.effective_level == "prediction" or not bed.roughness:
            yield name, lambda model, config=config: accelerate(model, config)
    for threshold in (0.1, 0.3):
        yield "EasyCache", core_cache(EasyCacheNode, threshold).patch
    for threshold in (0.1, 0.3):
        yield "LazyCache", core_cache(LazyCacheNode, threshold).patch
    for gap in (3, 5):
        yield "VDE", served_by_vde(every(STEPS, gap, 5))
    yield "FasterCache, half calls", half_calls(warmup=5, gap=4)


def served_by_vde(plan: set[int]) -> Patch:
    """VDE's scalars depend on the latent, which no forecaster of the node sees."""

    def patch(model: Any) -> Any:
        anchors: list[Anchor] = []
        step = -1

        def predict(
            executor: Any, x: torch.Tensor, timestep: torch.Tensor, *rest: Any
        ) -> torch.Tensor:
            nonlocal step
            step += 1
            sigma = float(timestep.flatten()[0])
            if step in plan:
                denoised: torch.Tensor = executor(x, timestep, *rest)
                anchors.append((step, (x - denoised) / sigma, x.clone()))
                return denoised
            slopes = [
                vde([(at, slope[i], latent[i]) for at, slope, latent in anchors], step, row, STEPS)
                for i, row in enumerate(x)
            ]
            return x - sigma * torch.stack(slopes)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "vde", predict)
        return model

    return patch


def half_calls(warmup: int, gap: int) -> Patch:
    """FasterCache's rule for guidance: the answer to the negative prompt is that to the positive
    one and their difference at the last step that computed both, every `gap`-th behind warm-up.
    (FasterCache weighs low and high frequencies of the difference apart.)"""

    def patch(model: Any) -> Any:
        difference, step = torch.zeros(()), -1

        def answer(asked: dict[str, Any]) -> list[torch.Tensor]:
            nonlocal difference, step
            step += 1
            positive, negative = asked["conds"]
            both = step < warmup or step % gap == 0
            computed, other = comfy.samplers.calc_cond_batch(
                asked["model"],
                [positive, negative if both else None],
                asked["input"],
                asked["sigma"],
                asked["model_options"],
            )
            if both:
                difference = other - computed
            return [computed, computed + difference]

        model = model.clone()
        model.set_model_sampler_calc_cond_batch_function(answer)
        return model

    return patch
