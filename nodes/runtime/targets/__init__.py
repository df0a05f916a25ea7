"""What a run speculates on, by level."""

from typing import Any

from ..guidance import is_foreign
from ..run import Run
from .features import FeatureRun
from .guided import GuidedRun
from .prediction import PredictionRun

RUNS: dict[str, type[Run]] = {"features": FeatureRun, "prediction": PredictionRun}


def run_for(level: str, guider: Any) -> type[Run]:
    """The kind of run for a level and a guider."""
    if level == "prediction" and is_foreign(guider):
        return GuidedRun
    return RUNS[level]


__all__ = ["RUNS", "run_for"]
