"""A profile: what plain runs of a model have taught, a few kilobytes without any picture in it.

It holds the Gram matrix of z = [x_0, v_0, v_1, ...] (see `courses.py`) at the noise levels of
the finest run, under one guidance. From there it is carried to other schedules and samplers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from .axis import SAME_SIGMA
from .errors import ConfigError
from .reaction import Row
from .trial import Trial

SCHEMA = 1
MOST_LEVELS = 200
MOST_TRIALS = 32
MOST_RUNS = 64  # a run counts at least 1 / 64, so that a profile can still change
FINER = 2.0  # a schedule may be so many times as fine as the profile
OTHERS = 1.44  # the surprise of pictures that a profile was not made of, before any was seen,
FORESEEN = 100  # and the innovations that this counts as
MOST_JUDGED = 1000  # innovations that older ones count as
NEARLY = 0.05  # a start may lie above the profile's by this share
HIGHER = 1.5  # a profile of a guidance up to so many times as high serves, too
TOLERANCE = 1e-6  # of the largest eigenvalue: what rounding leaves below zero


@dataclass(frozen=True)
class Profile:
    """What is known of one model under one guidance.

    Attributes:
        guidance: CFG scale; 1 if there is none.
        flow: the model is a flow model.
        sigmas: noise levels of the slopes, falling, all above 0.
        gram: upper triangle of the matrix, row by row.
        runs: plain runs that it was made of.
        surprise: innovations of accelerated runs over what was expected, their geometric mean. A
            profile of one picture knows that picture best: it begins with `OTHERS`.
        judged: innovations that `surprise` was made of.
        reaction: of the model itself, see `Reactions`; empty: it was not measured.
        trials: of plans on the model itself, at different shares.
    """

    guidance: float
    flow: bool
    sigmas: tuple[float, ...]
    gram: tuple[float, ...]
    runs: int = 1
    surprise: float = OTHERS
    judged: int = FORESEEN
    reaction: tuple[Row, ...] = ()
    trials: tuple[Trial, ...] = ()

    @property
    def matrix(self) -> torch.Tensor:
        """[levels + 1, levels + 1], float64."""
        size = len(self.sigmas) + 1
        rows, columns = torch.triu_indices(size, size)
        matrix = torch.zeros(size, size, dtype=torch.float64)
        matrix[rows, columns] = torch.tensor(self.gram, dtype=torch.float64)
        return matrix + matrix.triu(1).T

    def carried(self, sigmas: Sequence[float]) -> torch.Tensor | None:
        """The Gram matrix at other noise levels, [T + 1, T + 1]; None if too little is known of
        them.

        Slopes are interpolated in the log signal-to-noise ratio, so the matrix stays one of inner
        products. A run that begins lower begins where the plain run came by. Of what comes below
        its last level, as in the second of two stages, it knows nothing.

        Args:
            sigmas: of a sampler's turns.
        """
        distinct = len({round(math.log(s), 4) for s in sigmas})
        if not self.spans(sigmas) or distinct > FINER * len(self.sigmas):
            return None
        old = [self._log_snr(sigma) for sigma in self.sigmas]
        rows = torch.zeros(len(sigmas) + 1, len(old) + 1, dtype=torch.float64)
        rows[0, 0] = 1
        for i, (high, low) in enumerate(pairwise(self.sigmas)):
            rows[0, 1 + i] = min(0.0, max(low, sigmas[0]) - high)
        for row, sigma in zip(rows[1:], sigmas, strict=True):
            level = self._log_snr(sigma)
            i = min(max(bisect_right(old, level) - 1, 0), len(old) - 2)
            share = min(max((level - old[i]) / (old[i + 1] - old[i]), 0.0), 1.0)
            row[1 + i], row[2 + i] = 1 - share, share
        return rows @ self.matrix @ rows.T

    def spans(self, sigmas: Sequence[float]) -> bool:
        """Whether it has seen noise levels as high and as low as these."""
        above = sigmas[0] > self.sigmas[0] * (1 + NEARLY)
        below = sigmas[-1] < self.sigmas[-1] / (1 + NEARLY) / FINER  # a finer run ends lower
        return not above and not below

    def _log_snr(self, sigma: float) -> float:
        return math.log1p(-min(sigma, 0.9995)) - math.log(sigma) if self.flow else -math.log(sigma)

    def serves(self, guidance: float, flow: bool) -> bool:
        """Whether it says anything about this guidance. One of lower guidance does not: errors
        grow under guidance in a way that it has not seen."""
        return self.flow == flow and guidance * 0.95 <= self.guidance <= guidance * HIGHER

    def merged(self, run: Profile) -> Profile:
        """This profile and that of one more plain run, of which one spans the other. At the same
        noise levels they are averaged; else the wider one is kept, or the finer one. What was tried
        on the model stays known."""
        same = len(self.sigmas) == len(run.sigmas) and all(
            math.isclose(a, b, rel_tol=SAME_SIGMA)
            for a, b in zip(self.sigmas, run.sigmas, strict=True)
        )
        if same:
            share = 1 / min(self.runs + 1, MOST_RUNS)
            gram = tuple(a + share * (b - a) for a, b in zip(self.gram, run.gram, strict=True))
            return replace(self, gram=gram, runs=self.runs + 1)
        run = replace(run, reaction=self.reaction, trials=self.trials)
        if self.spans(run.sigmas) != run.spans(self.sigmas):
            return self if self.spans(run.sigmas) else run
        return run if len(run.sigmas) > len(self.sigmas) else self

    def judged_by(self, ratios: Sequence[float]) -> Profile:
        """The profile after a run whose innovations were these, over what was expected."""
        logs = [math.log(min(max(ratio, 0.1), 10.0)) for ratio in ratios if math.isfinite(ratio)]
        if not logs:
            return self
        count = min(self.judged, MOST_JUDGED)
        mean = (count * math.log(self.surprise) + sum(logs)) / (count + len(logs))
        return replace(self, surprise=math.exp(mean), judged=self.judged + len(logs))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `read` is the way back."""
        return {
            "schema": SCHEMA,
            "guidance": self.guidance,
            "flow": self.flow,
            "sigmas": [round(sigma, 6) for sigma in self.sigmas],
            "gram": [float(f"{value:.6g}") for value in self.gram],
            "runs": self.runs,
            "surprise": round(self.surprise, 4),
            "judged": self.judged,
            "reaction": [[float(f"{value:.4g}") for value in row] for row in self.reaction],
            "trials": [[round(t.share, 4), t.lead, round(t.ratio, 4)] for t in self.trials],
        }

    @classmethod
    def read(cls, source: Any) -> Profile:
        """A profile from what `to_dict` gave, wherever it has been since.

        Raises:
            ConfigError: it is something else, or could not come from any run.
        """
        if not isinstance(source, Mapping) or source.get("schema") != SCHEMA:
            found = source.get("schema") if isinstance(source, Mapping) else type(source).__name__
            raise ConfigError(
                f"profile: found schema {found}; expected a SpeCa profile of schema {SCHEMA}. "
                "Learn the model anew, or update SpeCa."
            )
        profile = cls(
            guidance=_number(source, "guidance", 0.0, 1000.0),
            flow=source.get("flow") is True,
            sigmas=_numbers(source, "sigmas", 2, MOST_LEVELS, 1e-6, 1e6),
            gram=_numbers(source, "gram", 6, (MOST_LEVELS + 1) * (MOST_LEVELS + 2) // 2),
            runs=int(_number(source, "runs", 1, 1e9)),
            surprise=_number(source, "surprise", 0.1, 10.0),
            judged=int(_number(source, "judged", 0, 1e9)),
            reaction=_reaction(source.get("reaction", [])),
            trials=_trials(source.get("trials", [])),
        )
        levels = len(profile.sigmas)
        if len(profile.gram) != (levels + 1) * (levels + 2) // 2 or any(
            a <= b for a, b in pairwise(profile.sigmas)
        ):
            raise _impossible(
                f"{levels} noise levels and {len(profile.gram)} products",
                "falling noise levels and a product for each pair",
            )
        eigenvalues = torch.linalg.eigvalsh(profile.matrix)
        if not eigenvalues[-1] > 0 or eigenvalues[0] < -TOLERANCE * eigenvalues[-1]:
            raise _impossible("products that no slopes have", "a matrix of inner products")
        return profile


def _impossible(found: str, expected: str) -> ConfigError:
    return ConfigError(
        f"profile: found {found}; expected {expected}. Delete it and learn the model anew."
    )


def _number(source: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = source.get(name)
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits or not low <= value <= high:  # type: ignore[operator]
        raise _impossible(f"{name} {str(value)[:40]}", f"a number from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _numbers(
    source: Mapping[str, Any],
    name: str,
    fewest: int,
    most: int,
    low: float = -1e12,
    high: float = 1e12,
) -> tuple[float, ...]:
    values = source.get(name)
    if not isinstance(values, (list, tuple)) or not fewest <= len(values) <= most:
        raise _impossible(f"{name} that are no list of {fewest} to {most}", "one")
    return tuple(_number({name: value}, name, low, high) for value in values)


def _reaction(rows: Any) -> tuple[Row, ...]:
    found = [_numbers({"reaction": row}, "reaction", 3, 3) for row in _list(rows, MOST_LEVELS)]
    if len(found) == 1 or any(a[0] >= b[0] for a, b in pairwise(found)):
        raise _impossible("a reaction out of order", "rising noise levels, two or more")
    return tuple((sigma, linear, noise) for sigma, linear, noise in found)


def _trials(rows: Any) -> tuple[Trial, ...]:
    found = []
    for row in _list(rows, MOST_TRIALS):
        share, lead, ratio = _numbers({"trials": row}, "trials", 3, 3, 0.0, 1000.0)
        if not (0 < share <= 1 and lead >= 1 and ratio > 0):
            raise _impossible(f"the trial {row}", "a share, a lead and a ratio above 0")
        found.append(Trial(share, int(lead), ratio))
    return tuple(found)


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _impossible("reaction or trials that are no list", f"one of at most {most}")
    return value
