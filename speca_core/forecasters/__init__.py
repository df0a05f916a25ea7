"""Forecasters: from the positions of the anchors to their weights. A new one is a file here and a line in the table."""

from .adams import AdamsBashforth
from .base import Forecaster
from .chebyshev import Chebyshev
from .foca import FoCa
from .hermite import Hermite
from .newton import Newton
from .reuse import Reuse
from .spline import Spline
from .taylor import Taylor

_ALL: tuple[type[Forecaster], ...] = (Newton, Spline, Taylor, Reuse, AdamsBashforth, FoCa, Hermite, Chebyshev)
FORECASTERS = {forecaster.name: forecaster for forecaster in _ALL}

__all__ = ["FORECASTERS", "AdamsBashforth", "Chebyshev", "FoCa", "Forecaster", "Hermite", "Newton", "Reuse", "Spline", "Taylor"]
