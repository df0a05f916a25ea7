"""Forecasters: from the positions of the anchors to their weights. A new one is a file here and a line in the table."""

from .base import Forecaster
from .newton import Newton
from .reuse import Reuse
from .taylor import Taylor

_ALL: tuple[type[Forecaster], ...] = (Newton, Taylor, Reuse)
FORECASTERS = {forecaster.name: forecaster for forecaster in _ALL}

__all__ = ["FORECASTERS", "Forecaster", "Newton", "Reuse", "Taylor"]
