"""Has the latent moved along its path since the last prediction, or has it jumped?

A forecast continues a path. Samplers that add fresh noise at every step leave it at every step, and
so do solvers whose order is too high for the step size: features computed before say nothing about
what follows. Two lines, in sigma, predict where a path goes: one along the slope
(x - denoised) / sigma that the sampler was served, one through the last two places. If more than
half of the latent's movement, in energy, is off the nearer of the two, the latent has jumped. Euler
is on the first by definition, whatever it was served; with fresh noise 80 to 99 % of the movement
is off both.
"""

import torch

from .axis import SAME_PLACE

TINY = 1e-12
JUMP_RATIO = 0.5**0.5  # part of the movement off the path; as lengths, so half of its energy


def lengths(difference: torch.Tensor) -> torch.Tensor:
    """Of each image, [images], in float32."""
    norms: torch.Tensor = torch.linalg.vector_norm(difference.flatten(1).float(), dim=1)
    return norms


class JumpDetector:
    """The last two places of one run's latents, and the slope that was served at the newest.

    Args:
        store: where tensors are kept; None: where the latents are.
    """

    def __init__(self, store: torch.device | None = None) -> None:
        self.store = store
        self._places: list[tuple[float, torch.Tensor]] = []
        self._slope: torch.Tensor | None = None

    def observe(self, sigma: torch.Tensor, x: torch.Tensor) -> tuple[float, set[int]]:
        """The sampler asks at `x`. Reading the result waits for the device, once.

        Args:
            sigma: [], the noise level.
            x: [images, ...], the latents there, any float dtype. A copy is kept.

        Returns:
            sigma, and the indices of the images that have jumped. Within a step, where sigma does
            not move, all of the latent's movement is off the path; it is compared with the movement
            before.
        """
        numbers, x = [sigma.reshape(1)], x.to(self.store or x.device, copy=True)
        self._places = [place for place in self._places if place[1].shape == x.shape]
        if len(self._places) == 2:
            numbers += [each.to(sigma.device) for each in self._misses(sigma.to(x.device), x)]
        level, *misses = torch.cat(numbers).tolist()
        stays = bool(self._places) and abs(self._places[-1][0] - level) <= SAME_PLACE
        misses = misses[len(x) :] if stays else misses[: len(x)]
        self._places = [*(self._places[:-1] if stays else self._places[-1:]), (level, x)]
        self._slope = None
        return level, {image for image, miss in enumerate(misses) if not miss <= JUMP_RATIO}

    def record_served(self, denoised: torch.Tensor) -> None:
        """The sampler is served `denoised` [images, ...] at the place where it has asked."""
        sigma, x = self._places[-1]
        if sigma > 0:
            self._slope = (x - denoised.to(x.device)).div_(sigma)

    def _misses(self, sigma: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
        """Per image, [images]: the share of the movement that is off the path, and the movement
        relative to the one before."""
        (sigma_2, x_2), (sigma_1, x_1) = self._places
        stride = (sigma - sigma_1).to(x.dtype)
        moved, before = x - x_1, x_1 - x_2
        whole, previous = lengths(moved), lengths(before)
        along = None if self._slope is None else lengths(torch.addcmul(moved, self._slope, -stride))
        off = lengths(moved.addcmul_(before, stride / (sigma_2 - sigma_1)))
        off = off if along is None else torch.minimum(off, along)
        return [off / whole.clamp_min(TINY), whole / previous.clamp_min(TINY)]

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(x.nbytes for _, x in self._places) + (
            0 if self._slope is None else self._slope.nbytes
        )
