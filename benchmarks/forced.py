"""A budget that follows a pattern: random weights say nothing about which drafts pass."""

from collections.abc import Mapping, Sequence

from speca_pack.speca_core.budgets import LaneState, Reason


class Forced:
    """Computes, drafts and rejects by prescription.

    Example: `Forced([None, None, None, 0, 1], images=2)` computes three steps, drafts both images
    in the fourth, and in the fifth rejects the draft of the first image.

    Args:
        pattern: one entry per step: None computes every image; a number drafts all, and rejects the
            drafts of that many, from the first one on.
        images: in the batch.
    """

    name = "forced"
    help = "For measurements"
    ignores_own_jumps = judges_drafts = False

    def __init__(self, pattern: Sequence[int | None], images: int = 1) -> None:
        self.pattern = list(pattern)
        self.images = images
        self._lanes = 0

    def policy(self, threshold: float, planner: None = None) -> "ForcedPolicy":
        """Of one lane. Lanes are opened image by image, conditioning by conditioning."""
        self._lanes += 1
        return ForcedPolicy(self.pattern, (self._lanes - 1) % self.images)

    def to_dict(self) -> Mapping[str, object]:
        """For the report."""
        return {"name": self.name, "pattern": self.pattern}


class ForcedPolicy:
    """Of one image."""

    def __init__(self, pattern: Sequence[int | None], image: int) -> None:
        self.pattern = pattern
        self.image = image

    def decide(self, state: LaneState) -> Reason:
        """By the pattern."""
        return Reason.BUDGET if self.pattern[state.point.step] is None else Reason.DRAFT

    def tolerance(self, state: LaneState) -> float:
        """Everything finite passes, or nothing."""
        return -1.0 if self.image < (self.pattern[state.point.step] or 0) else float("inf")

    def on_accepted(self, state: LaneState, error: float | None) -> None:
        """Nothing to keep."""

    def on_computed(self, state: LaneState, hindcast: float | None, rejected: float | None) -> None:
        """Nothing to keep."""
