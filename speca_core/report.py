"""What happened in a run: one record per call, one row per lane, and what can be counted from them.

The JSON form, which is public API, is made and read in `report_json.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any, Literal

Verdict = Literal["computed", "accepted", "rejected"]


@dataclass
class RowRecord:
    """One row of one call.

    Attributes:
        image: index of the image in the batch.
        branch: index of the conditioning (ComfyUI: 0 positive, 1 negative).
        verdict: computed (not drafted), accepted (a draft was served) or rejected (drafted,
            refused, computed in the same call).
        reason: value of `Reason`.
        error: the verifier's relative error of the draft; None if not drafted or not checked. `inf`
            becomes null in JSON.
        tolerance: the largest error that would have passed; None if not drafted or not checked.
        hindcast: measured relative error, in the model's output, of the forecast that would have
            been served; None if there was none.
        surprise: the hindcast over what it usually is with this model; None without a profile.
        lane: number of the row's lane in this run, in order of first appearance.
    """

    image: int
    branch: int
    verdict: Verdict
    reason: str
    error: float | None = None
    tolerance: float | None = None
    hindcast: float | None = None
    surprise: float | None = None
    lane: int = 0


@dataclass
class CallRecord:
    """The model was asked once, for one or more rows.

    Attributes:
        index: count of calls in this run, from 0.
        sigma, position: where on the schedule (position in steps).
        seconds: time of the call, everything of ours included.
        rows: one record per lane.
        prediction: number of the prediction that the call is part of, from 1; cond and uncond may
            come in two calls.
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

    @property
    def accepted(self) -> bool:
        """Whether every row was served a draft."""
        return bool(self.rows) and all(row.verdict == "accepted" for row in self.rows)


@dataclass
class RunReport:
    """One sampling pass of one sampler.

    Attributes:
        model: its family's name, or its class where none is needed (level `prediction`).
        settings: `SpecaConfig.to_dict()`.
        level: what was forecast, `prediction` or `features`.
        steps: steps of the schedule.
        seconds: wall time of the sampling.
        cache_bytes: most memory that the run's tensors took, in bytes.
        placement: where the anchors were kept: on the `device` of the model, or on the `host` if
            the device has no room.
        out_of_memory: index of the call at which memory ran out; from there on everything was
            computed, and nothing kept. None if it did not.
        coupled: all rows of a call decided together, not only those of one image.
        watched: so many first predictions were computed in any case.
        trust: share of the threshold that was the drafts' tolerance.
        repaired: predictions that hindsight changed; 0 also if it does not know the sampler.
        calls: in the order they happened.
        finished: False if the run was interrupted or failed.
        sigmas: the schedule, steps + 1 values.
        flow: the model is a flow model; see `Schedule`.
        profile: of the model: its "state", `learning` from this run, `served` or `none`, and what
            else is known; None if the settings need none.
        ids: where the run happened: prompt, workflow, node, sampler, run; not part of the JSON.
        machine: what a bug report says of it, by name; not part of the JSON.
    """

    model: str
    settings: dict[str, Any]
    steps: int
    calls: list[CallRecord] = field(default_factory=list)
    level: str = "features"
    seconds: float = 0.0
    cache_bytes: int = 0
    placement: str = "device"
    out_of_memory: int | None = None
    coupled: bool = False
    watched: int = 0
    trust: float = 1.0
    repaired: int = 0
    finished: bool = False
    sigmas: list[float] = field(default_factory=list)
    flow: bool = True
    profile: dict[str, Any] | None = None
    ids: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def waits(self) -> int:
        """How often the host has waited for the device: each prediction asks where the sampler is,
        and each call reads what its drafts' check says, and how far off forecasts were."""
        checked = sum(any(row.error is not None for row in call.rows) for call in self.calls)
        scored = sum(any(row.hindcast is not None for row in call.rows) for call in self.calls)
        return len({call.prediction for call in self.calls}) + checked + scored

    def count(self, verdict: Verdict) -> int:
        """Number of rows with this verdict."""
        return sum(row.verdict == verdict for call in self.calls for row in call.rows)

    @property
    def rows(self) -> int:
        """Rows of all calls: the evaluations that the plain model would have made."""
        return sum(len(call.rows) for call in self.calls)

    @property
    def evaluations(self) -> int:
        """Rows that were really evaluated."""
        return self.rows - self.count("accepted")

    @property
    def acceptance_rate(self) -> float | None:
        """Share of the drafts that were accepted; None if there was no draft."""
        accepted = self.count("accepted")
        drafted = accepted + self.count("rejected")
        return accepted / drafted if drafted else None

    @property
    def mean_draft_length(self) -> float | None:
        """Mean number of accepted drafts in a row, over all lanes; None if there was none."""
        lengths = [length for length in self._draft_lengths() if length]
        return mean(lengths) if lengths else None

    def _draft_lengths(self) -> Iterator[int]:
        open_streaks: dict[int, int] = {}
        for call in self.calls:
            for row in call.rows:
                if row.verdict == "accepted":
                    open_streaks[row.lane] = open_streaks.get(row.lane, 0) + 1
                else:
                    yield open_streaks.pop(row.lane, 0)
        yield from open_streaks.values()

    @property
    def mask(self) -> dict[str, Any]:
        """The steps in which anything was computed, as the budget `mask` reads it."""
        steps = {
            int(c.position) for c in self.calls if any(r.verdict != "accepted" for r in c.rows)
        }
        return {
            "steps": self.steps,
            "computed": sorted(step for step in steps if step < self.steps),
        }

    def seconds_per_call(self, accepted: bool) -> float | None:
        """Median seconds of the calls whose rows were all served drafts (or of those with none);
        None if there was no such call."""
        verdicts = [{row.verdict == "accepted" for row in call.rows} for call in self.calls]
        calls = zip(self.calls, verdicts, strict=True)
        times = [call.seconds for call, found in calls if found == {accepted}]
        return median(times) if times else None

    def full_seconds(self, rows: int) -> float | None:
        """Median seconds of a call of `rows` rows that was computed without a draft; None if no
        call was.

        The first call, which pays for compilation and the like, counts only if there is no other. A
        number of rows that was never computed whole is scaled from the nearest one that was.
        """
        whole = [call for call in self.calls if call.rows and call.computed]
        whole = [call for call in whole if call.index > 0] or whole
        if not whole:
            return None
        nearest = min((len(call.rows) for call in whole), key=lambda size: abs(size - rows))
        times = [call.seconds for call in whole if len(call.rows) == nearest]
        return median(times) * rows / nearest

    @property
    def spent(self) -> float:
        """Seconds of sampling so far: wall time, or the sum of the calls while the run goes on."""
        return self.seconds or sum(call.seconds for call in self.calls)

    @property
    def plain_seconds(self) -> float | None:
        """Estimate of the plain model's seconds: calls with drafts take those of computed ones.
        None if no call was computed.

        A call whose drafts were all rejected took no less than the plain one would have, whatever
        the clock says.
        """
        drafted = [call for call in self.calls if not call.computed]
        full = {size: self.full_seconds(size) for size in {len(call.rows) for call in drafted}}
        if not self.calls or None in full.values():
            return None
        gains = {call.index: (full[len(call.rows)] or 0.0) - call.seconds for call in drafted}
        served = {c.index for c in drafted if any(row.verdict == "accepted" for row in c.rows)}
        counted = [gain if i in served else min(gain, 0.0) for i, gain in gains.items()]
        return self.spent + sum(counted)

    @property
    def summary(self) -> str:
        """One line for the log and the node."""
        accepted, rejected = self.count("accepted"), self.count("rejected")
        text = f"{accepted} of {self.rows} evaluations skipped"
        if rejected:
            text += f" ({rejected} more tried, then computed)"
        text += f", {self.seconds:.2f} s"
        if self.out_of_memory is not None:
            text += (
                f", out of memory at call {self.out_of_memory}: nothing is skipped from there on"
            )
        return text if self.finished else f"{text} (did not finish)"
