"""What happened in a run: one record per call, one row per lane. The JSON is public API; `SCHEMA` counts its versions."""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

SCHEMA = 1

Verdict = Literal["computed", "drafted", "rejected"]


@dataclass
class RowRecord:
    """One row of one call.

    Attributes:
        image: index of the image in the batch.
        branch: index of the conditioning (ComfyUI: 0 positive, 1 negative).
        verdict: computed (not drafted), drafted (draft served) or rejected (drafted, refused, computed in the same call).
        reason: value of `Reason`.
        error: the verifier's estimate for the draft, relative; None if not drafted or not checked. `inf` becomes null in JSON.
        tolerance: the largest error that would have passed; None if not drafted or not checked.
        hindcast: measured relative error, in the model's output, of the forecast that would have been served; None if there was none.
    """

    image: int
    branch: int
    verdict: Verdict
    reason: str
    error: float | None = None
    tolerance: float | None = None
    hindcast: float | None = None


@dataclass
class CallRecord:
    """One evaluation of the model by the sampler.

    Attributes:
        index: count of calls in this run, from 0.
        sigma, position: where on the schedule (position in steps).
        seconds: time of the evaluation, everything of ours included.
        rows: one record per lane.
    """

    index: int
    sigma: float
    position: float
    seconds: float = 0.0
    rows: list[RowRecord] = field(default_factory=list)


@dataclass
class RunReport:
    """One sampling pass of one sampler.

    Attributes:
        model: the family's name.
        settings: `SpecaConfig.to_dict()`.
        steps: steps of the schedule.
        seconds: wall time of the sampling.
        cache_bytes: most memory the anchors took, in bytes.
        out_of_memory: index of the call at which memory ran out; from there on everything was computed, and nothing kept. None if it
            did not.
        calls: in the order they happened.
        finished: False if the run was interrupted or failed.
    """

    model: str
    settings: dict[str, Any]
    steps: int
    calls: list[CallRecord] = field(default_factory=list)
    seconds: float = 0.0
    cache_bytes: int = 0
    out_of_memory: int | None = None
    finished: bool = False

    def count(self, verdict: Verdict) -> int:
        """Number of rows with this verdict."""
        return sum(row.verdict == verdict for call in self.calls for row in call.rows)

    @property
    def rows(self) -> int:
        """Number of rows of all calls: the evaluations the plain model would have computed."""
        return sum(len(call.rows) for call in self.calls)

    @property
    def mask(self) -> dict[str, Any]:
        """The steps in which anything was computed, as the budget `mask` reads it."""
        computed = {int(call.position) for call in self.calls if any(row.verdict != "drafted" for row in call.rows)}
        return {"steps": self.steps, "computed": sorted(step for step in computed if step < self.steps)}

    def seconds_per_call(self, drafted: bool) -> float | None:
        """Median seconds of the calls whose rows were all drafted (or of those where none was); None if there was no such call."""
        times = [c.seconds for c in self.calls if c.rows and all((r.verdict == "drafted") == drafted for r in c.rows)]
        return median(times) if times else None

    @property
    def summary(self) -> str:
        """One line for the log and the node."""
        computed = self.rows - self.count("drafted")
        text = f"{computed} of {self.rows} evaluations computed, {self.count('drafted')} drafted, {self.count('rejected')} rejected"
        short = "" if self.out_of_memory is None else f", out of memory at call {self.out_of_memory}: no drafts from there on"
        return f"{text}, {self.seconds:.2f} s{short}{'' if self.finished else ' (did not finish)'}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. Numbers that JSON cannot hold become null."""
        drafted = self.count("drafted")
        return {
            "schema": SCHEMA,
            "model": self.model,
            "settings": _finite(self.settings),
            "steps": self.steps,
            "finished": self.finished,
            "totals": {
                "calls": len(self.calls),
                "rows": self.rows,
                "computed": self.rows - drafted,
                "drafted": drafted,
                "rejected": self.count("rejected"),
            },
            "seconds": {
                "sampling": round(self.seconds, 4),
                "per_computed_call": _rounded(self.seconds_per_call(drafted=False)),
                "per_drafted_call": _rounded(self.seconds_per_call(drafted=True)),
            },
            "cache_bytes": self.cache_bytes,
            "out_of_memory": self.out_of_memory,
            "mask": self.mask,
            "calls": [
                {
                    "index": call.index,
                    "sigma": round(call.sigma, 6),
                    "position": round(call.position, 4),
                    "seconds": round(call.seconds, 5),
                    "rows": [
                        {
                            "image": row.image,
                            "branch": row.branch,
                            "verdict": row.verdict,
                            "reason": row.reason,
                            "error": _rounded(row.error),
                            "tolerance": _rounded(row.tolerance),
                            "hindcast": _rounded(row.hindcast),
                        }
                        for row in call.rows
                    ],
                }
                for call in self.calls
            ],
        }


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None and math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
