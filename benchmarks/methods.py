"""What is compared: a table of methods, each a group (one curve), a label, and what it does to the setting or the model."""

from testbed import Setting  # first: it makes ComfyUI importable

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from speca_pack.speca_core import SpecaConfig
from speca_pack.nodes.runtime.attach import accelerate
from speca_pack.speca_core.budgets import Hindcast, Interval, Target, Threshold
from speca_pack.speca_core.forecasters import AdamsBashforth, Chebyshev, Fitted, Hermite, Newton, Reuse, Spline, Taylor
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
    patch: Callable[[Any], Any] = lambda model: model
    change: Callable[[Setting], Setting] = lambda setting: setting

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.group} {self.label}"


NODE: dict[str, Any] = {"hindsight": SpecaConfig().hindsight, "level": SpecaConfig().level}  # as the node has them


def speca(group: str, label: str, **config: Any) -> Method:
    """A method of ours; unless asked for, at the level of features, where others work, and without hindsight, which none of them has."""
    settings = SpecaConfig(**({"hindsight": False, "level": "features"} | config))
    return Method(group, label, lambda model: accelerate(model, settings))


def fewer(sampler: str | None, share: float) -> Method:
    """The plain model with a share of the steps; another sampler is still compared with the plain run of the setting's own."""

    def change(setting: Setting) -> Setting:
        return dataclasses.replace(setting, steps=max(2, round(setting.steps * share)), sampler=sampler or setting.sampler)

    return Method(f"fewer steps{f', {sampler}' if sampler else ''}", f"{share:.0%}", change=change)


def core_cache(node: Any, threshold: float) -> Method:
    """EasyCache or LazyCache of ComfyUI. In float32 their in-place addition would write into the sampler's latent: x is cloned first."""

    def patch(model: Any) -> Any:
        def clone(executor: Any, x: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
            return executor(x.clone(), *rest, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "clone", clone)
        return node.execute(model, threshold, 0.15, 0.95, False).result[0]

    return Method(node.__name__.removesuffix("Node"), f"{threshold:g}", patch)


def interval(label: str, forecaster: Any, every: int, **config: Any) -> Method:
    """Compute every n-th call, unverified: TaylorSeer and its kin."""
    budget = Interval(interval=every, max_streak=100)
    return speca(f"interval, {label}", f"1/{every}", threshold=1.0, forecaster=forecaster, verifier=NoCheck(), budget=budget, **config)


def interval_with_hindsight(every: int) -> Method:
    """Our forecaster and hindsight on fixed intervals, unverified: what the verifier has to beat."""
    budget = Interval(interval=every, max_streak=100)
    return speca("interval, hindsight", f"1/{every}", threshold=1.0, verifier=NoCheck(), budget=budget, hindsight=True)


METHODS = [
    *(fewer(None, share) for share in (0.72, 0.6, 0.5, 0.4, 0.33, 0.25)),
    *(fewer(sampler, share) for sampler in ("dpmpp_2m", "ipndm", "uni_pc", "res_multistep") for share in (0.5, 0.33)),
    *(core_cache(EasyCacheNode, threshold) for threshold in (0.03, 0.06, 0.1, 0.2)),
    *(core_cache(LazyCacheNode, threshold) for threshold in (0.03, 0.1)),
    *(interval("reuse", Reuse(), n) for n in (2, 3)),
    *(interval("Taylor 1", Taylor(1), n) for n in (2, 3, 4)),
    *(interval("Taylor 2", Taylor(2), n) for n in (2, 3, 4)),
    *(interval(f"Taylor {m}, level prediction", Taylor(m), n, level="prediction") for m in (1, 2) for n in (2, 3, 4)),
    *(interval("Newton 2", Newton(2, 0.0), n) for n in (2, 3, 4)),
    *(interval("damped Newton", Newton(), n) for n in (2, 3, 4)),
    *(interval("spline", Spline(), n) for n in (3, 4)),
    *(interval("Adams-Bashforth", AdamsBashforth(), n) for n in (2, 3)),
    *(interval("Hermite .5", Hermite(), n) for n in (2, 3)),
    *(interval("Chebyshev", Chebyshev(), n) for n in (2, 3)),
    *(
        speca(f"SpeCa paper, {mode}", f"{tau:g}", threshold=tau, forecaster=Taylor(2), verifier=LastBlock(), budget=budget, guided=False)
        for mode, budget in (
            ("deferred", Threshold(decay=0.3, max_streak=8, min_streak=2, deferred=1, give_up=0)),
            ("strict", Threshold(decay=0.3, max_streak=8, give_up=0)),
        )
        for tau in (0.01, 0.02, 0.04)
    ),
    *(speca("default", f"{tau:g}", threshold=tau, **NODE) for tau in (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)),
    *(speca("target", f"{s:g}x", budget=Target(speedup=s), **NODE) for s in (1.5, 2.0, 2.5, 3.0, 4.0)),
    *(speca("level features", f"{tau:g}", threshold=tau, hindsight=True) for tau in (0.025, 0.05, 0.1, 0.2, 0.4, 0.8)),
    *(speca("level features, no hindsight", f"{tau:g}", threshold=tau) for tau in (0.1, 0.2)),
    *(speca("level features, prompts apart", f"{tau:g}", threshold=tau, hindsight=True, guided=False) for tau in (0.025, 0.05)),
    *(speca("level features, fitted", f"{tau:g}", threshold=tau, hindsight=True, forecaster=Fitted()) for tau in (0.1, 0.2)),
    *(speca("level features, target", f"{s:g}x", budget=Target(speedup=s), hindsight=True) for s in (1.5, 2.0, 2.5, 3.0, 4.0)),
    *(
        speca("level features, target, fitted", f"{s:g}x", budget=Target(speedup=s), forecaster=Fitted(), hindsight=True)
        for s in (2.0, 2.5, 3.0, 4.0)
    ),
    *(interval_with_hindsight(n) for n in (2, 3, 4)),
    *(speca("last block, accumulated", f"{t:g}", threshold=t, verifier=LastBlock(), hindsight=True) for t in (0.025, 0.05)),
    *(speca("first block, accumulated", f"{t:g}", threshold=t, verifier=FirstBlock(), hindsight=True) for t in (0.03,)),
    *(speca("level features, hindcast", f"{t:g}", threshold=t, budget=Hindcast(), hindsight=True) for t in (0.1, 0.2)),
]

QUICK = [m for m in METHODS if m.group in ("fewer steps", "EasyCache", "interval, Taylor 2", "default", "target")]
