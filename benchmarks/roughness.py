"""What a big model has and a small trained one lacks: it has not made up its mind.

A small model is smooth: nearly all of its next slope follows from the last three, and small errors
of the latent change nothing in its picture. A big model decides from the noise where things are,
and each evaluation sees them at a slightly different place. So here the parts of the estimated
picture are moved, each by what a fixed random network says of the noisy latent. That is a function
like any other part of the model, the same in every run.
"""

import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate

WIDTH = 64


class Roughness:
    """Changes what a diffusion model answers: slopes.

    Args:
        share: size of the component at sigma 1, relative to the answer. It falls with sigma: the
            less noise, the less is undecided.
        gain: how fast it turns over with the latent.
        part: side of what moves as one, in latent pixels. Whole things move, not single pixels:
            only that changes pictures as much as it changes slopes.
        channels: of the latent.
    """

    def __init__(self, share: float, gain: float, part: int, channels: int = 16) -> None:
        self.share = share
        self.gain = gain
        self.part = part
        random = torch.Generator().manual_seed(5)
        self.first = torch.randn(WIDTH, channels, 3, 3, generator=random) / (9 * channels) ** 0.5
        self.last = torch.randn(2, WIDTH, 3, 3, generator=random)
        self.phase = 6.2832 * torch.rand(1, WIDTH, 1, 1, generator=random)

    def __call__(
        self, latent: torch.Tensor, sigma: torch.Tensor, answer: torch.Tensor
    ) -> torch.Tensor:
        """The answer [rows, channels, h, w] to a latent of that shape at `sigma` [rows], with the
        component."""
        latent, sigma, slope = latent.float(), sigma.float().view(-1, 1, 1, 1), answer.float()
        across, down = torch.gradient(latent - sigma * slope, dim=(3, 2))
        shift = self.shift(latent)
        rough = shift[:, :1] * across + shift[:, 1:] * down
        size = slope.flatten(1).norm(dim=1) / rough.flatten(1).norm(dim=1)
        return (slope + self.share * sigma * size.view(-1, 1, 1, 1) * rough).to(answer.dtype)

    def shift(self, latent: torch.Tensor) -> torch.Tensor:
        """Where each part moves, [rows, 2, h, w]: across and down, in no unit."""
        parts = self.part * avg_pool2d(latent / latent.std((1, 2, 3), keepdim=True), self.part)
        wave = torch.sin(self.gain * conv2d(parts, self.first, padding=1) + self.phase)
        made = conv2d(wave, self.last, padding=1)
        return interpolate(made, size=latent.shape[-2:], mode="bilinear")
