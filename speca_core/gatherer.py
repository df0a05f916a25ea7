"""Gathering: a plain run is listened to, at no evaluation of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .axis import SAME_SIGMA
from .profile import MOST_LEVELS, Profile
from .tensors import parts_of, weighed

NUMBERS = 1 << 16  # of a latent that are read, of all images of a run together


class Gatherer:
    """Listens to a plain run, and makes a profile of it.

    It keeps a fixed subset of the numbers of x_0 and of each slope.
    """

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []  # [images, numbers] float32: x_0, then slopes
        self._sigmas: list[float] = []
        self.whole = True  # nothing has gone by unheard
        self.parts: Sequence[int] = ()  # see `Session`; each counts as much as any other
        self.drawn: torch.Tensor | None = None  # see `Session.draw`; nothing is learned of the rest
        self.store: torch.device | None = None  # where numbers are kept; None: where they are

    def hear(self, sigma: float, x: torch.Tensor, slopes: torch.Tensor) -> None:
        """The model was asked at the latents `x` [images, ...], and the slopes there are `slopes`.
        A level that was heard already, as in Heun's second call, or is not below, is left out."""
        if self._sigmas and sigma >= self._sigmas[-1] * (1 - SAME_SIGMA):
            return
        if self._kept and self._kept[0].shape[0] != len(x):
            self.whole = False
            return
        if not self._kept:
            self._kept.append(self._numbers(x))
        self._kept.append(self._numbers(slopes))
        self._sigmas.append(sigma)

    def _numbers(self, x: torch.Tensor) -> torch.Tensor:
        return some_numbers(weighed(x, self.drawn), self.parts).to(self.store or x.device)

    def profile(self, guidance: float, flow: bool) -> Profile | None:
        """What was heard; None if that was no whole run."""
        levels = len(self._sigmas)
        if not self.whole or not 2 <= levels <= MOST_LEVELS:
            return None
        z = torch.stack(self._kept).transpose(0, 1)  # [images, levels + 1, numbers]
        # Not float64 before: some devices have none.
        gram = (z @ z.transpose(1, 2)).mean(0).cpu().double() / z.shape[2]
        if not bool(torch.isfinite(gram).all()) or not gram.any():  # of a mask that draws nothing
            return None
        rows, columns = torch.triu_indices(levels + 1, levels + 1)
        return Profile(guidance, flow, tuple(self._sigmas), tuple(gram[rows, columns].tolist()))

    def give_up(self) -> None:
        """The rest of the run goes by unheard: there will be no profile of it."""
        self.whole = False
        self._kept.clear()

    def foreseen(self, latents: torch.Tensor, sigmas: Sequence[float]) -> int:
        """Bytes that will be held of a run of such latents that asks at `sigmas`."""
        return (1 + levels_of(sigmas)) * some_numbers(latents, self.parts).nbytes

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(kept.nbytes for kept in self._kept)


def levels_of(sigmas: Sequence[float]) -> int:
    """How many levels are heard of a run that asks at `sigmas`."""
    return sum(s < min(sigmas[:i], default=math.inf) for i, s in enumerate(sigmas))


def some_numbers(x: torch.Tensor, sizes: Sequence[int] = ()) -> torch.Tensor:
    """Evenly spread numbers of each image, at most `NUMBERS` of all; of parts as many of each, or
    fewer and larger ones, so that their squares add up to as much."""
    parts = parts_of(x, sizes)
    taken = [_spread(part.flatten(1), NUMBERS // len(parts)) for part in parts]
    share = sum(part.shape[1] for part in taken) / len(parts)
    for part in taken if len(parts) > 1 else ():
        part.mul_(math.sqrt(share / part.shape[1]))
    return taken[0] if len(parts) == 1 else torch.cat(taken, 1)


def _spread(flat: torch.Tensor, most: int) -> torch.Tensor:
    # Odd: an even step could see the same columns of each line alone.
    step = -(-flat.numel() // most) | 1
    return flat[:, ::step].to(torch.float32, copy=True)
