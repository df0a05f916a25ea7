"""The settings of one SpeCa Accelerate node, immutable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .budgets import BUDGETS, Accumulated, Budget
from .errors import ConfigError
from .forecasters import FORECASTERS, Forecaster, Newton
from .knobs import Knob, check, make
from .verifiers import VERIFIERS, Embedded, Verifier

THRESHOLD = Knob(0.0, 1.0, 0.005, "Largest relative error of the model's output that passes, 0..1. 0 gives the plain model, bit for bit")
LEVELS = {
    "auto": "prediction, or features where the verifier runs a block",
    "features": "the stream that leaves the last block; a draft runs its light outer parts. Needed to check by a block, and under CFG++",
    "prediction": "the guided prediction itself; a draft runs nothing, and little memory is kept. Works with every model, U-Nets too",
}
PERCENT = Knob(0.0, 1.0, 0.01, "")


@dataclass(frozen=True)
class SpecaConfig:
    """What a user chose.

    Attributes:
        threshold: largest estimated error that passes, 0 (plain model) to 1; what it is an error of is the verifier's and budget's word.
        forecaster, verifier, budget: entries of the tables of the same names.
        hindsight: repair past drafts when the next call is computed; with the samplers that `Solver` describes.
        guided: errors are judged in what guidance makes of cond and uncond; else in each of them.
        level: what is forecast, one of `LEVELS`.
        start, end: part of the schedule in which drafts are allowed, as progress 0..1; outside every call is computed.

    Raises:
        ConfigError: a value is out of range, or start is not before end.
    """

    threshold: float = 0.1
    forecaster: Forecaster = field(default_factory=Newton)
    verifier: Verifier = field(default_factory=Embedded)
    budget: Budget = field(default_factory=Accumulated)
    start: float = 0.0
    end: float = 1.0
    hindsight: bool = True
    guided: bool = True
    level: str = "auto"

    @property
    def forecasts(self) -> str:
        """The level that is meant: `features` or `prediction`."""
        return self.level if self.level != "auto" else "prediction" if self.verifier.runs == "none" else "features"

    def __post_init__(self) -> None:
        if self.threshold != math.inf:  # tests and benchmarks may ask for "accept everything"
            check("SpeCa", "threshold", self.threshold, 0.0, THRESHOLD)
        check("SpeCa", "start", self.start, 0.0, PERCENT)
        check("SpeCa", "end", self.end, 0.0, PERCENT)
        if self.start >= self.end:
            raise ConfigError(f"SpeCa: start is {self.start:g} and end is {self.end:g}; expected start < end. Move start down or end up.")
        for switch in ("hindsight", "guided"):
            if not isinstance(getattr(self, switch), bool):
                raise ConfigError(f"SpeCa: {switch} is {getattr(self, switch)!r}; expected true or false. Set it to one of these.")
        if not isinstance(self.level, str) or self.level not in LEVELS:
            raise ConfigError(f"SpeCa: level is {self.level!r}; expected one of {', '.join(LEVELS)}. Choose one of these.")
        if self.level == "prediction" and self.verifier.runs != "none":
            raise ConfigError(
                f"SpeCa: verifier {self.verifier.name} runs a block of the model, but level prediction forecasts what the model "
                "makes, without running it. Choose verifier embedded or none, or level features."
            )

    @classmethod
    def from_choices(
        cls,
        threshold: float,
        forecaster: Mapping[str, Any],
        verifier: Mapping[str, Any],
        budget: Mapping[str, Any],
        start: float = 0.0,
        end: float = 1.0,
        hindsight: bool = True,
        guided: bool = True,
        level: str = "features",
    ) -> "SpecaConfig":
        """Build from widget values; each choice is {"name": key in its table, knob: value, ...}.

        What was saved before there were levels means features.

        Raises:
            ConfigError: unknown name or knob, or a value out of range.
        """

        def pick(table: Mapping[str, type[Any]], kind: str, choice: Mapping[str, Any]) -> Any:
            if not isinstance(choice, Mapping):
                raise ConfigError(f"{kind} is {choice!r}; expected its name and settings. Choose one of {', '.join(table)}.")
            return make(table, kind, choice.get("name"), {k: v for k, v in choice.items() if k != "name"})

        return cls(
            threshold=threshold,
            forecaster=pick(FORECASTERS, "forecaster", forecaster),
            verifier=pick(VERIFIERS, "verifier", verifier),
            budget=pick(BUDGETS, "budget", budget),
            start=start,
            end=end,
            hindsight=hindsight,
            guided=guided,
            level=level,
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; `SpecaConfig.from_choices(**config.to_dict())` gives the same config."""
        return {
            "threshold": self.threshold,
            "forecaster": self.forecaster.to_dict(),
            "verifier": self.verifier.to_dict(),
            "budget": self.budget.to_dict(),
            "start": self.start,
            "end": self.end,
            "hindsight": self.hindsight,
            "guided": self.guided,
            "level": self.level,
        }
