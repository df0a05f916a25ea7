"""Compute given steps: the masks of DPCache, LeMiCa, BudCache, MeanCache and the like, or of an earlier run of one's own."""

import json
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..knobs import knob, text
from .base import LimitedLedger, Limits, Outlook

EXAMPLE = '{"steps": 28, "computed": [0, 1, 2, 4, 7, 10, 13, 16, 19, 22, 25, 27]}'
LONGEST = 1000  # steps of the longest schedule a mask may describe


def read_mask(source: str) -> tuple[int, tuple[int, ...]]:
    """(steps, computed steps in order) of a mask.

    Args:
        source: JSON, {"steps": 28, "computed": [0, 1, 2, 5]}, as in a report; or the list alone, whose last entry is the last step.

    Raises:
        ConfigError: anything else.
    """
    try:
        value: Any = json.loads(source) if len(source) <= 20 * LONGEST else None
        computed: Any = value["computed"] if isinstance(value, dict) else value
        steps = value["steps"] if isinstance(value, dict) else max(computed) + 1
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in [steps, *computed])
        if whole and 2 <= steps <= LONGEST and computed and all(0 <= step < steps for step in computed):
            return steps, tuple(sorted(set(computed)))
    except (ValueError, TypeError, KeyError, RecursionError):
        pass  # what was found is said below
    raise ConfigError(
        f"mask: computed is {source[:80]!r}; expected JSON like {EXAMPLE} with step numbers from 0 to steps - 1 and at most {LONGEST} "
        "steps. Copy the mask of a SpeCa Report, or write one."
    )


@dataclass(frozen=True)
class Mask(Limits):
    """The given steps are computed, all others drafted; the verifier is a veto at the threshold. Other step counts stretch the mask."""

    name = "mask"
    help = "Computes the given steps and drafts the others; the threshold only vetoes"

    warmup: int = knob(1, 1, 50, 1, "Calls computed in full at the start of a run, in calls")
    max_streak: int = knob(100, 1, 100, 1, "Most drafts in a row, in calls")
    computed: str = text(EXAMPLE, "The steps to compute, as JSON", read_mask)

    def ledger(self, threshold: float) -> "MaskLedger":
        """An account with this rule."""
        return MaskLedger(self, threshold)


class MaskLedger(LimitedLedger):
    """Knows the mask."""

    def __init__(self, budget: Mask, threshold: float) -> None:
        super().__init__(budget, threshold)
        self.steps, self.computed_steps = read_mask(budget.computed)

    def wants(self, outlook: Outlook) -> bool:
        """Draft where the mask, stretched to this schedule, does not compute."""
        moment = outlook.moment
        stretch = (moment.steps - 1) / (self.steps - 1)
        return moment.step not in {round(step * stretch) for step in self.computed_steps}
