"""A component of a model's answer that no past explains, as real models have one.

A small trained model is smooth: nearly all of its next slope follows from the last three. Here a
fixed random network of the noisy latent is added to its answers. It is a function like any other
part of the model, the same in every run, but it turns over faster than the sampler's steps.
"""

from typing import Any

import torch
from torch.nn.functional import conv2d

WIDTH = 64


class Roughness:
    """A forward hook of a diffusion model.

    Args:
        share: size of the component, relative to the answer.
        gain: how fast it turns over with the latent.
        channels: of the latent.
    """

    def __init__(self, share: float, gain: float, channels: int = 16) -> None:
        self.share = share
        self.gain = gain
        random = torch.Generator().manual_seed(5)
        self.first = torch.randn(WIDTH, channels, 3, 3, generator=random) / (9 * channels) ** 0.5
        self.last = torch.randn(channels, WIDTH, 3, 3, generator=random)
        self.phase = 6.2832 * torch.rand(1, WIDTH, 1, 1, generator=random)

    def __call__(self, _: Any, inputs: tuple[Any, ...], answer: torch.Tensor) -> torch.Tensor:
        """The answer [rows, channels, h, w], with the component; the first input is the latent."""
        latent = inputs[0].float()
        latent = latent / latent.flatten(1).std(1).view(-1, 1, 1, 1)
        wave = torch.sin(self.gain * conv2d(latent, self.first, padding=1) + self.phase)
        rough = conv2d(wave, self.last, padding=1)
        scale = answer.float().flatten(1).norm(dim=1) / rough.flatten(1).norm(dim=1)
        return answer + (self.share * scale.view(-1, 1, 1, 1) * rough).to(answer.dtype)
