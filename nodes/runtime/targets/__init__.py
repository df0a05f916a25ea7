"""What a run speculates on, by level."""

from .features import FeatureRun
from .prediction import PredictionRun

RUNS = {"features": FeatureRun, "prediction": PredictionRun}

__all__ = ["RUNS"]
