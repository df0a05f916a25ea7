"""Compute given steps: the masks of DPCache, LeMiCa, BudCache and the like, or of one's own run."""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import ConfigError
from ..settings import number, text
from .base import LaneState, LimitedPolicy, Limits

EXAMPLE = '{"steps": 28, "computed": [0, 1, 2, 4, 7, 10, 13, 16, 19, 22, 25, 27]}'
LONGEST = 1000  # steps of the longest schedule that a mask may describe


def read_mask(source: str) -> tuple[int, tuple[int, ...]]:
    """(steps, computed steps in order) of a mask.

    Args:
        source: JSON, {"steps": 28, "computed": [0, 1, 2, 5]}, as in a report; or the list alone,
            whose last entry is the last step.

    Raises:
        ConfigError: anything else.
    """
    try:
        value: Any = json.loads(source) if len(source) <= 20 * LONGEST else None
        computed: Any = value["computed"] if isinstance(value, dict) else value
        steps = value["steps"] if isinstance(value, dict) else max(computed) + 1
        numbers = [steps, *computed]
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        inside = 2 <= steps <= LONGEST and all(0 <= step < steps for step in computed)
        if whole and inside and computed:
            return steps, tuple(sorted(set(computed)))
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # the message below says what was found
    raise ConfigError(
        f"mask: computed is {source[:80]!r}; expected JSON like {EXAMPLE} with step numbers from 0 "
        f"to steps - 1 and at most {LONGEST} steps. Copy the mask of a SpeCa Report, or write one."
    )


class MaskPolicy(LimitedPolicy):
    """Knows the mask."""

    def __init__(self, budget: "Mask", threshold: float) -> None:
        super().__init__(budget, threshold)
        self.steps, self.computed_steps = read_mask(budget.computed)

    def may_draft(self, state: LaneState) -> bool:
        """Draft where the mask, stretched to this schedule, does not compute."""
        stretch = (state.point.steps - 1) / (self.steps - 1)
        return state.point.step not in {round(step * stretch) for step in self.computed_steps}


@dataclass(frozen=True)
class Mask(Limits):
    """The given steps are computed, all others drafted; the verifier is a veto at the threshold.

    In a schedule of another length the mask is stretched.
    """

    name = "mask"
    help = "Computes the given steps and drafts the others; the threshold only vetoes"
    policy_type: ClassVar[type[LimitedPolicy]] = MaskPolicy

    warmup: int = number(1, 1, 50, 1, "Calls that are always computed at the start of a run")
    max_streak: int = number(100, 1, 100, 1, "Most drafts in a row")
    computed: str = text(EXAMPLE, "The steps to compute, as JSON", read_mask)
