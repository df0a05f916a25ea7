"""What a run speculates on, by level."""

from typing import Any

from ....speca_core.config import SpecaConfig
from ..guidance import is_foreign
from ..run import Run
from .features import FeatureRun
from .guided import GuidedRun
from .plain import PlainRun
from .prediction import PredictionRun

RUNS: dict[str, type[Run]] = {"features": FeatureRun, "prediction": PredictionRun}


def run_for(config: SpecaConfig, guider: Any, teaches: bool) -> type[Run]:
    """The kind of run.

    Args:
        teaches: a profile is made of it.
    """
    if config.threshold == 0 and not teaches:
        return PlainRun
    level = config.effective_level
    if level == "prediction" and is_foreign(guider):
        return GuidedRun
    return RUNS[level]


__all__ = ["RUNS", "run_for"]
