"""Forecasters: what a feature will be, from its anchors. A new one is a file here and a line in the
table."""

from .adams import AdamsBashforth
from .base import Forecaster
from .chebyshev import Chebyshev
from .fitted import Fitted
from .foca import FoCa
from .hermite import Hermite
from .learned import Learned
from .newton import Newton
from .reuse import Reuse
from .spline import Spline
from .taylor import Taylor

_ALL: tuple[type[Forecaster], ...] = (
    Learned,
    Newton,
    Fitted,
    Spline,
    Taylor,
    Reuse,
    AdamsBashforth,
    FoCa,
    Hermite,
    Chebyshev,
)
FORECASTERS = {forecaster.name: forecaster for forecaster in _ALL}

__all__ = [
    "FORECASTERS",
    "AdamsBashforth",
    "Chebyshev",
    "Fitted",
    "FoCa",
    "Forecaster",
    "Hermite",
    "Learned",
    "Newton",
    "Reuse",
    "Spline",
    "Taylor",
]
