"""The latent's path: was this prediction's place reached along it, or by a jump?

A forecast continues a path. Samplers that add fresh noise at every step leave it at every step, and so do solvers whose order is too high
for the step size: features computed before say nothing of what follows. A path is nearly a line in sigma, because the sampler follows
the slope (x - denoised) / sigma, which changes little from step to step. Where the line through the last two places foretells the next
one worse than standing still would, |x - line| > |x - x_1|, there is no path: that is a jump. On a smooth path the ratio is below 1/2,
with fresh noise it is 1.4 and more.
"""

import torch

from .schedule import SAME_PLACE

TINY = 1e-12


class Path:
    """The last two places of one run's latents."""

    def __init__(self) -> None:
        self._places: list[tuple[float, torch.Tensor]] = []

    def arrive(self, sigma: torch.Tensor, x: torch.Tensor) -> tuple[float, set[int]]:
        """Go on to `x`. Reading the result waits for the device, once.

        Args:
            sigma: [], the noise level.
            x: [images, ...], the latents there, any float dtype. A copy is kept.

        Returns:
            sigma, and the indices of the images that have jumped. Where sigma stays the same, as within a step of Heun's, none has.
        """
        numbers = [sigma.reshape(1)]
        if len(self._places) == 2 and self._places[1][1].shape == x.shape:
            numbers.append(self._misses(sigma, x))
        level, *misses = torch.cat(numbers).tolist()
        if self._places and abs(self._places[-1][0] - level) <= SAME_PLACE:
            self._places[-1] = level, x.clone()
            return level, set()
        self._places = [*self._places, (level, x.clone())][-2:]
        return level, {image for image, miss in enumerate(misses) if not miss <= 1.0}

    def _misses(self, sigma: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """|x - line| / |x - x_1| of each image, [images]."""
        (sigma_2, x_2), (sigma_1, x_1) = self._places
        moved = (x - x_1).flatten(1).float()
        length = torch.linalg.vector_norm(moved, dim=1).clamp_min(TINY)
        missed = moved.addcmul_((x_2 - x_1).flatten(1).float(), (sigma.float() - sigma_1) / (sigma_1 - sigma_2))
        misses: torch.Tensor = torch.linalg.vector_norm(missed, dim=1) / length
        return misses

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(x.nbytes for _, x in self._places)
