"""What is compared: a table of methods, each a group (one curve), a label, and what it does to the
setting or the model."""

from testbed import Setting, unchanged  # first: it makes ComfyUI importable

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.speca_core import SpecaConfig
from speca_pack.speca_core.config import WITHOUT_PROFILE
from speca_pack.speca_core.budgets import Hindcast, Interval, Target, Threshold
from speca_pack.speca_core.forecasters import (
    AdamsBashforth,
    Chebyshev,
    Fitted,
    Hermite,
    Newton,
    Reuse,
    Spline,
    Taylor,
)
from speca_pack.speca_core.verifiers import FirstBlock, LastBlock, NoCheck


@dataclass(frozen=True)
class Method:
    """One point of one curve.

    Attributes:
        group: the curve.
        label: of the point.
        patch: what is done to the model.
        change: what is done to the setting.
    """

    group: str
    label: str
    patch: Callable[[Any], Any] = unchanged
    change: Callable[[Setting], Setting] = unchanged

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.group} {self.label}"


def node(group: str, label: str, **config: Any) -> Method:
    """The node with drafts that are checked one by one, as it was in release 0.1.0, but for some
    settings."""
    settings = SpecaConfig(**{"threshold": 0.1, **WITHOUT_PROFILE, **config})
    return Method(group, label, lambda model: accelerate(model, settings))


def features(group: str, label: str, **config: Any) -> Method:
    """At level features, where other caches work."""
    return node(group, label, level="features", **config)


def fewer(sampler: str | None, share: float) -> Method:
    """The plain model with a share of the steps; another sampler is still compared with the plain
    run of the setting's own."""

    def change(setting: Setting) -> Setting:
        steps = max(2, round(setting.steps * share))
        return dataclasses.replace(setting, steps=steps, sampler=sampler or setting.sampler)

    group = f"fewer steps, {sampler}" if sampler else "fewer steps"
    return Method(group, f"{share:.0%}", change=change)


def core_cache(cache: Any, threshold: float) -> Method:
    """EasyCache or LazyCache of ComfyUI. In float32 their in-place addition would write into the
    sampler's latent: x is cloned first."""

    def patch(model: Any) -> Any:
        def clone(executor: Any, x: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
            return executor(x.clone(), *rest, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "clone", clone)
        return cache.execute(model, threshold, 0.15, 0.95, False).result[0]

    return Method(cache.__name__.removesuffix("Node"), f"{threshold:g}", patch)


def interval(label: str, every: int, hindsight: bool = False, **config: Any) -> Method:
    """Compute every n-th call, unverified: TaylorSeer and its kin, which know no hindsight."""
    fixed = {
        "threshold": 1.0,
        "verifier": NoCheck(),
        "budget": Interval(interval=every, max_streak=100),
        "hindsight": hindsight,
        "level": "features",
    }
    return node(f"interval, {label}", f"1/{every}", **(fixed | config))


def paper(mode: str, threshold: float, budget: Threshold) -> Method:
    """The SpeCa paper's rule."""
    return features(
        f"SpeCa paper, {mode}",
        f"{threshold:g}",
        threshold=threshold,
        forecaster=Taylor(2),
        verifier=LastBlock(),
        budget=budget,
        guided=False,
        hindsight=False,
    )


DEFERRED = Threshold(decay=0.3, max_streak=8, min_streak=2, deferred=True, give_up=0)
STRICT = Threshold(decay=0.3, max_streak=8, give_up=0)
OTHER_SAMPLERS = ("dpmpp_2m", "ipndm", "uni_pc", "res_multistep")
THRESHOLDS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
TARGETS = (1.5, 2.0, 2.5, 3.0, 4.0)
LEVEL = "level features"

METHODS = [
    *(fewer(None, share) for share in (0.72, 0.6, 0.5, 0.4, 0.33, 0.25)),
    *(fewer(sampler, share) for sampler in OTHER_SAMPLERS for share in (0.5, 0.33)),
    *(core_cache(EasyCacheNode, threshold) for threshold in (0.03, 0.06, 0.1, 0.2)),
    *(core_cache(LazyCacheNode, threshold) for threshold in (0.03, 0.1)),
    *(interval("reuse", n, forecaster=Reuse()) for n in (2, 3)),
    *(interval("Taylor 1", n, forecaster=Taylor(1)) for n in (2, 3, 4)),
    *(interval("Taylor 2", n, forecaster=Taylor(2)) for n in (2, 3, 4)),
    *(
        interval(f"Taylor {m}, level prediction", n, forecaster=Taylor(m), level="prediction")
        for m in (1, 2)
        for n in (2, 3, 4)
    ),
    *(interval("Newton 2", n, forecaster=Newton(2, 0.0)) for n in (2, 3, 4)),
    *(interval("damped Newton", n, forecaster=Newton()) for n in (2, 3, 4)),
    *(interval("spline", n, forecaster=Spline()) for n in (3, 4)),
    *(interval("Adams-Bashforth", n, forecaster=AdamsBashforth()) for n in (2, 3)),
    *(interval("Hermite .5", n, forecaster=Hermite()) for n in (2, 3)),
    *(interval("Chebyshev", n, forecaster=Chebyshev()) for n in (2, 3)),
    *(paper("deferred", t, DEFERRED) for t in (0.01, 0.02, 0.04)),
    *(paper("strict", t, STRICT) for t in (0.01, 0.02, 0.04)),
    *(node("checked", f"{t:g}", threshold=t) for t in THRESHOLDS),
    *(node("target", f"{s:g}x", budget=Target(speedup=s)) for s in TARGETS),
    *(features(LEVEL, f"{t:g}", threshold=t) for t in THRESHOLDS),
    *(
        features(f"{LEVEL}, no hindsight", f"{t:g}", threshold=t, hindsight=False)
        for t in (0.1, 0.2)
    ),
    *(
        features(f"{LEVEL}, prompts apart", f"{t:g}", threshold=t, guided=False)
        for t in (0.025, 0.05)
    ),
    *(features(f"{LEVEL}, fitted", f"{t:g}", threshold=t, forecaster=Fitted()) for t in (0.1, 0.2)),
    *(features(f"{LEVEL}, target", f"{s:g}x", budget=Target(speedup=s)) for s in TARGETS),
    *(
        features(
            f"{LEVEL}, target, fitted",
            f"{s:g}x",
            budget=Target(speedup=s),
            forecaster=Fitted(),
        )
        for s in TARGETS[1:]
    ),
    # Our forecaster and hindsight on fixed intervals, unverified: what the verifier has to beat.
    *(interval("hindsight", n, hindsight=True) for n in (2, 3, 4)),
    *(
        features("last block, accumulated", f"{t:g}", threshold=t, verifier=LastBlock())
        for t in (0.025, 0.05)
    ),
    features("first block, accumulated", "0.03", threshold=0.03, verifier=FirstBlock()),
    *(features(f"{LEVEL}, hindcast", f"{t:g}", threshold=t, budget=Hindcast()) for t in (0.1, 0.2)),
]

SOME = ("fewer steps", "EasyCache", "interval, Taylor 2", "checked", "target")
QUICK = [method for method in METHODS if method.group in SOME]
