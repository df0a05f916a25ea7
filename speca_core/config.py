"""The settings of one SpeCa node, immutable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from .budgets import BUDGETS, Accumulated, Budget, Distance
from .errors import ConfigError
from .forecasters import FORECASTERS, Forecaster, Learned, Newton, Taylor
from .settings import Settings, entry, number, one_of, switch
from .verifiers import VERIFIERS, Embedded, Innovation, Verifier

LEVELS = {
    "auto": "prediction, or features if the verifier runs a block",
    "features": "the input of the model's head; a draft runs the model's light outer parts. "
    "Needed to check by a block",
    "prediction": "the guided prediction; a draft runs nothing, and little memory is kept. "
    "Works with every model, U-Nets too",
}

OF_A_PROFILE = "learned", "innovation", "distance"
# What serves where no profile of the model can be had.
WITHOUT_PROFILE: dict[str, Settings] = {
    "forecaster": Newton(),
    "verifier": Embedded(),
    "budget": Accumulated(),
}
PER_DISTANCE = 2.0  # threshold of `accumulated` over that of `distance`, for about the same result


@dataclass(frozen=True)
class SpecaConfig(Settings):
    """What a user chose. Each setting's help says what it does.

    Raises:
        ConfigError: a value is out of range, or two settings contradict each other.
    """

    name: ClassVar[str] = "SpeCa"
    help: ClassVar[str] = "Which outputs are predicted, and how predictions are checked"

    threshold: float = number(
        0.06,
        0.0,
        1.0,
        0.005,
        "How far the result may be from the plain model's, as a share of it. "
        "0 is the plain model, bit for bit. Right is faster, left is closer to the plain model",
        slider=True,
        endless=True,
    )
    forecaster: Forecaster = entry(Learned, FORECASTERS, "How skipped steps are predicted.")
    verifier: Verifier = entry(Innovation, VERIFIERS, "How predictions are checked.")
    budget: Budget = entry(Distance, BUDGETS, "Which steps are skipped.")
    start: float = number(
        0.0, 0.0, 1.0, 0.01, "Steps may be skipped from here on (share of the steps)", advanced=True
    )
    end: float = number(
        1.0, 0.0, 1.0, 0.01, "Steps may be skipped up to here (share of the steps)", advanced=True
    )
    hindsight: bool = switch(
        True,
        "After each computed step, take back the error that the skipped ones before it left",
        advanced=True,
    )
    guided: bool = switch(
        True,
        "At level features: measure errors after CFG combines both prompts. Off: per prompt",
        advanced=True,
    )
    level: str = one_of("auto", LEVELS, "What is forecast.", advanced=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start >= self.end:
            raise ConfigError(
                f"SpeCa: start is {self.start:g} and end is {self.end:g}; expected start < end. "
                "Move start down or end up."
            )
        if self.level == "prediction" and self.verifier.block:
            raise ConfigError(
                f"SpeCa: verifier {self.verifier.name} runs a block of the model, but level "
                "prediction runs nothing of it; expected a verifier that needs no block. Choose "
                "verifier embedded or none, or level features."
            )

    @property
    def judged(self) -> SpecaConfig:
        """The same with a check of each draft, if the budget judges drafts: `innovation` judges
        pictures alone."""
        if self.verifier.name == "innovation" and self.budget.judges_drafts:
            return replace(self, verifier=Embedded())
        return self

    @property
    def without_profile(self) -> SpecaConfig:
        """The same with what needs no profile, in place of what does."""
        changed: dict[str, Any] = {
            part: other
            for part, other in WITHOUT_PROFILE.items()
            if getattr(self, part).name in OF_A_PROFILE
        }
        if "budget" in changed:
            changed["threshold"] = min(1.0, PER_DISTANCE * self.threshold)
        elif "forecaster" in changed and not self.budget.judges_drafts:
            changed["forecaster"] = Taylor()  # where nothing ends a streak a line holds longer
        return replace(self, **changed)

    @property
    def effective_level(self) -> str:
        """The level that is meant: `features` or `prediction`."""
        if self.level != "auto":
            return self.level
        return "features" if self.verifier.block else "prediction"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; `SpecaConfig.build(config.to_dict())` gives the same config."""
        return self.values()


PRESETS: dict[str, dict[str, Any]] = {  # by name: what differs from the defaults
    "faithful": {"threshold": 0.03},
    "balanced": {},
    "fast": {"threshold": 0.12},
    "draft": {"threshold": 0.2},
}
