"""SpeCa's algorithm in pure torch: forecast, verify, accept or compute. No ComfyUI here; `bridge` is the only package that knows it."""

from .config import SpecaConfig
from .errors import ConfigError, SpecaError, UnsupportedModel
from .report import CallRecord, RowRecord, RunReport
from .session import Call, Session

__all__ = ["Call", "CallRecord", "ConfigError", "RowRecord", "RunReport", "Session", "SpecaConfig", "SpecaError", "UnsupportedModel"]
