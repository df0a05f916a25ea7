"""What happened in a run: one record per call, one row per lane. The JSON is public API; `SCHEMA` counts its versions."""

import math
from collections.abc import Mapping
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
        lane: number of the row's lane in this run, in order of first appearance.
    """

    image: int
    branch: int
    verdict: Verdict
    reason: str
    error: float | None = None
    tolerance: float | None = None
    hindcast: float | None = None
    lane: int = 0


@dataclass
class CallRecord:
    """One evaluation of the model by the sampler.

    Attributes:
        index: count of calls in this run, from 0.
        sigma, position: where on the schedule (position in steps).
        seconds: time of the evaluation, everything of ours included.
        rows: one record per lane.
        prediction: count of the sampler's prediction that the call is part of, from 1; cond and uncond may come in two calls.
    """

    index: int
    sigma: float
    position: float
    seconds: float = 0.0
    rows: list[RowRecord] = field(default_factory=list)
    prediction: int = 0

    @property
    def computed(self) -> bool:
        """Whether every row was computed, and none was drafted before."""
        return all(row.verdict == "computed" for row in self.rows)


@dataclass
class RunReport:
    """One sampling pass of one sampler.

    Attributes:
        model: the family's name.
        settings: `SpecaConfig.to_dict()`.
        steps: steps of the schedule.
        seconds: wall time of the sampling.
        cache_bytes: most memory the anchors took, in bytes.
        placement: where the anchors were kept: on the `device` of the model, or on the `host`, where the device has no room.
        out_of_memory: index of the call at which memory ran out; from there on everything was computed, and nothing kept. None if it
            did not.
        joint: all rows of a call decided together, not only those of one image.
        repaired: number of predictions that hindsight changed; 0 also where it does not know the sampler.
        calls: in the order they happened.
        finished: False if the run was interrupted or failed.
        sigmas: the schedule, steps + 1 values.
        flow: the model is a flow model; see `Schedule`.
        ids: where the run happened: prompt, workflow, node, sampler, run (see `bridge/events.py`); not part of the JSON.
    """

    model: str
    settings: dict[str, Any]
    steps: int
    calls: list[CallRecord] = field(default_factory=list)
    seconds: float = 0.0
    cache_bytes: int = 0
    placement: str = "device"
    out_of_memory: int | None = None
    joint: bool = False
    repaired: int = 0
    finished: bool = False
    sigmas: list[float] = field(default_factory=list)
    flow: bool = True
    ids: dict[str, str] = field(default_factory=dict)

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

    def full_seconds(self, rows: int) -> float | None:
        """Median seconds of a call of `rows` rows that was computed without a draft; None if no call was.

        The first call, which pays for compilation and the like, counts only if there is no other. A number of rows that was never
        computed whole is scaled from the nearest one that was.
        """
        whole = [call for call in self.calls if call.rows and call.computed]
        whole = [call for call in whole if call.index > 0] or whole
        if not whole:
            return None
        nearest = min((len(call.rows) for call in whole), key=lambda size: abs(size - rows))
        return median(call.seconds for call in whole if len(call.rows) == nearest) * rows / nearest

    @property
    def spent(self) -> float:
        """Seconds of sampling so far: wall time, or while the run is under way the sum of its calls."""
        return self.seconds or sum(call.seconds for call in self.calls)

    @property
    def plain_seconds(self) -> float | None:
        """What the plain model would have taken, estimated: calls with drafts at the seconds of computed ones; None if there are none.

        A call whose drafts were all rejected took no less than the plain one would have, whatever the clock says.
        """
        drafted = [call for call in self.calls if not call.computed]
        full = {size: self.full_seconds(size) for size in {len(call.rows) for call in drafted}}
        if not self.calls or None in full.values():
            return None
        gains = {call.index: (full[len(call.rows)] or 0.0) - call.seconds for call in drafted}
        served = {call.index for call in drafted if any(row.verdict == "drafted" for row in call.rows)}
        return self.spent + sum(gain if index in served else min(gain, 0.0) for index, gain in gains.items())

    @property
    def summary(self) -> str:
        """One line for the log and the node."""
        drafted, rejected = self.count("drafted"), self.count("rejected")
        computed = self.rows - drafted - rejected
        text = f"{drafted} of {self.rows} evaluations drafted, {computed} computed, {rejected} rejected and computed"
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
            "schedule": {"sigmas": self.sigmas, "flow": self.flow},
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
                "spent": round(self.spent, 4),
                "plain_estimate": _rounded(self.plain_seconds),
            },
            "cache_bytes": self.cache_bytes,
            "placement": self.placement,
            "out_of_memory": self.out_of_memory,
            "joint": self.joint,
            "repaired": self.repaired,
            "mask": self.mask,
            "calls": [
                {
                    "index": call.index,
                    "sigma": round(call.sigma, 6),
                    "position": round(call.position, 4),
                    "seconds": round(call.seconds, 5),
                    "prediction": call.prediction,
                    "rows": [
                        {
                            "image": row.image,
                            "branch": row.branch,
                            "verdict": row.verdict,
                            "reason": row.reason,
                            "error": _rounded(row.error),
                            "tolerance": _rounded(row.tolerance),
                            "hindcast": _rounded(row.hindcast),
                            "lane": row.lane,
                        }
                        for row in call.rows
                    ],
                }
                for call in self.calls
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RunReport":
        """The report that `to_json` wrote, as exact as it was written there. Fields that are counted from others are counted again.

        Raises:
            KeyError, TypeError, ValueError: it is no such JSON.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"the report has schema {data['schema']!r}; expected {SCHEMA}")
        calls = [
            CallRecord(
                int(call["index"]),
                float(call["sigma"]),
                float(call["position"]),
                float(call["seconds"]),
                [RowRecord(**row) for row in call["rows"]],
                int(call["prediction"]),
            )
            for call in data["calls"]
        ]
        return cls(
            model=str(data["model"]),
            settings=dict(data["settings"]),
            steps=int(data["steps"]),
            calls=calls,
            seconds=float(data["seconds"]["sampling"]),
            cache_bytes=int(data["cache_bytes"]),
            placement=data.get("placement", "device"),
            out_of_memory=data.get("out_of_memory"),
            joint=bool(data.get("joint", False)),
            repaired=int(data.get("repaired", 0)),
            finished=bool(data["finished"]),
            sigmas=[float(sigma) for sigma in data["schedule"]["sigmas"]],
            flow=bool(data["schedule"]["flow"]),
        )


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None and math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
