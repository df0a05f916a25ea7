"""Where a draft's time goes at level features: a stopwatch, whose laps are a prediction's parts."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sources import Through
from speca_pack.nodes.runtime.run import Run
from speca_pack.nodes.runtime.subjects.features import FeatureRun, FeaturesSubject
from speca_pack.speca_core.call import Call

PARTS = ("around", "path", "embedders", "forecast", "head", "check")


class Laps:
    """Each lap lasts until the next one begins.

    Args:
        stamp: the time now.
        between: milliseconds from one stamp to another.
    """

    def __init__(self, stamp: Callable[[], Any], between: Callable[[Any, Any], float]) -> None:
        self.stamp = stamp
        self.between = between
        self.predictions: list[list[tuple[str, Any]]] = []

    def start(self) -> None:
        """A new prediction."""
        self.predictions.append([])

    def begin(self, part: str) -> None:
        """From here on the time goes to this part."""
        self.predictions[-1].append((part, self.stamp()))

    def milliseconds(self, prediction: int) -> dict[str, float]:
        """By part; `whole` is their sum."""
        spent = dict.fromkeys(PARTS, 0.0)
        marks = self.predictions[prediction]
        for (part, begun), (_, ended) in itertools.pairwise(marks):
            spent[part] += self.between(begun, ended)
        return spent | {"whole": sum(spent.values())}


class Timed(Through):
    """Forecast, then the head, then the check with its own forecasts, heads and comparison."""

    def __init__(self, call: Call, laps: Laps) -> None:
        super().__init__(call)
        self.laps = laps

    def forecast(self, tap: str, rows: Sequence[int]) -> torch.Tensor:
        """After it the head runs."""
        self.laps.begin("forecast")
        made = super().forecast(tap, rows)
        self.laps.begin("head")
        return made

    def embedded_pair(self, rows: Sequence[int]) -> Iterator[torch.Tensor] | None:
        """The check begins."""
        self.laps.begin("check")
        return super().embedded_pair(rows)

    def judge(
        self, rows: Sequence[int], errors: Sequence[float] | None
    ) -> tuple[list[int], list[int]]:
        """The check ends; the rest of the model's outer parts follows."""
        verdicts = super().judge(rows, errors)
        self.laps.begin("embedders")
        return verdicts


def timed(laps: Laps) -> type[Run]:
    """A run that tells the laps where it is."""

    class TimedSubject(FeaturesSubject):
        def source(self, call: Call) -> Timed:
            return Timed(call, laps)

    class TimedRun(FeatureRun):
        subject = TimedSubject

        def predict(self, executor: Any, *inputs: Any) -> Any:
            def comfyui(*inputs: Any) -> Any:
                laps.begin("around")
                made = executor(*inputs)
                laps.begin("path")
                return made

            comfyui.class_obj = executor.class_obj
            laps.start()
            laps.begin("path")
            made = super().predict(comfyui, *inputs)
            laps.begin("path")
            return made

    return TimedRun


@contextmanager
def watched(module: Any, laps: Laps) -> Iterator[None]:
    """The model itself runs between two laps of ComfyUI's own work."""
    hooks = (
        module.register_forward_pre_hook(lambda *_: laps.begin("embedders")),
        module.register_forward_hook(lambda *_: laps.begin("around")),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def medians(laps: Laps, predictions: Sequence[int]) -> dict[str, float]:
    """Milliseconds of each part, over some predictions."""
    found = defaultdict(list)
    for prediction in predictions:
        for part, spent in laps.milliseconds(prediction).items():
            found[part].append(spent)
    return {part: statistics.median(spent) for part, spent in found.items()}
