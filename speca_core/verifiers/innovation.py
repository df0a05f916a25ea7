"""Each computed step tells how well the profile knows this picture."""

from dataclasses import dataclass
from typing import ClassVar

from ..settings import number
from .base import Verifier


@dataclass(frozen=True)
class Innovation(Verifier):
    """surprise = ||v - v^|| / (what the profile expects of it), with v^ the forecast of the slope v
    that was computed.

    Drafts are served as they are. What is judged is the picture: where a computed step surprises,
    the budget computes the next one sooner. It costs nothing, and sees nothing before the first
    computed step behind a draft.
    """

    name = "innovation"
    help = (
        "Free check at each computed step: where a picture surprises the profile, the way to the "
        "next step is halved. Needs forecaster learned"
    )
    judges_drafts: ClassVar[bool] = False

    bar: float = number(
        1.6,
        1.0,
        10.0,
        0.1,
        "How many times as far off as usual a forecast must have been",
    )

    def is_surprised(self, surprise: float) -> bool:
        """Whether it is above the bar, or not finite."""
        return not surprise <= self.bar
