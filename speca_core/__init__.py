"""SpeCa's algorithm in pure torch: forecast, verify, accept or compute. No ComfyUI here."""

from .call import Call
from .config import SpecaConfig
from .errors import ConfigError, SpecaError, UnsupportedModel
from .report import CallRecord, RowRecord, RunReport
from .session import Prediction, Session

__all__ = [
    "Call",
    "CallRecord",
    "ConfigError",
    "Prediction",
    "RowRecord",
    "RunReport",
    "Session",
    "SpecaConfig",
    "SpecaError",
    "UnsupportedModel",
]
