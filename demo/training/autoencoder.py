"""The autoencoder: ComfyUI's TAESD class, 16 channels, an eighth of the size, on the scenes."""

import math
import time
from pathlib import Path
from typing import Any

import comfy.taesd.taesd
import comfy.utils
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from .optimiser import Training
from .scenes import SIZE, scene

SCENES, BATCH, CROP = 1500, 8, 64
NOISE = 0.05  # in the latents, so that the decoder bears small errors
FIRST, FIRST_HELD_OUT, HELD_OUT = 500_000, 900_000, 32  # seeds of scenes
RATE = 5e-4


def load(path: Path) -> Any:
    """The autoencoder in a file."""
    model = comfy.taesd.taesd.TAESD(latent_channels=16)
    model.load_state_dict(comfy.utils.load_torch_file(str(path)))
    return model.float().to(memory_format=torch.channels_last)


def render(first: int, count: int) -> torch.Tensor:
    """Scenes as uint8 [count, 3, SIZE, SIZE]."""
    pictures = np.stack([scene(first + i)[0] for i in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def train(start: Path, out: Path, minutes: float) -> None:
    """Fine-tune the autoencoder in `start` on random crops of scenes, and write `out`."""
    torch.manual_seed(0)
    model = load(start)  # with the scale and shift of Flux's latent format
    named = [(n, p) for n, p in model.named_parameters() if not n.startswith("vae_")]
    inner = [p for _, p in named if p.shape[:2] == (64, 64) and p.ndim == 4 and p.shape[2] == 3]
    mine = {id(p) for p in inner}
    others = [p for _, p in named if id(p) not in mine]
    training = Training(inner, others, 0, (RATE, RATE))
    pictures = render(FIRST, SCENES)
    held_out = render(FIRST_HELD_OUT, HELD_OUT).float() / 255
    began = told = time.time()
    while (passed := (time.time() - began) / 60 / minutes) < 1:
        chosen = torch.randint(len(pictures), (BATCH,)).tolist()
        tops, lefts = torch.randint(SIZE - CROP + 1, (2, BATCH)).tolist()
        crops = [
            pictures[i, :, y : y + CROP, x : x + CROP]
            for i, y, x in zip(chosen, tops, lefts, strict=True)
        ]
        truth = torch.stack(crops).float() / 255
        truth = truth.flip(-1) if torch.rand(()) < 0.5 else truth
        scale = min(1, (training.steps + 1) / 30)
        scale *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * passed))
        training.step(loss_of(model, truth), scale, kept=0.996)
        if time.time() - told > 120:
            told = time.time()
            print(f"  autoencoder, {passed:.0%}: {quality(model, held_out):.2f} dB", flush=True)
    training.swap()
    print(f"  autoencoder: {quality(model, held_out):.2f} dB on {HELD_OUT} scenes")
    values = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    save_file({k: v if k.startswith("vae_") else v.half() for k, v in values.items()}, str(out))


def loss_of(model: Any, truth: torch.Tensor) -> torch.Tensor:
    """Distance and edges of the pictures; latents of mean 0, deviation 1 and without outliers."""
    with torch.autocast("cpu", torch.bfloat16):
        z = model.taesd_encoder(truth.contiguous(memory_format=torch.channels_last)).float()
        noise = NOISE * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)
        made = model.taesd_decoder(z + noise).float()
    off = made - truth
    mean, deviation = z.mean((0, 2, 3)), z.std((0, 2, 3))
    edges = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
    shape = mean.square().mean() + (deviation - 1).square().mean()
    outliers = F.relu(z.abs() - 2.5).square().mean()
    distance = off.abs().mean() + 3 * off.square().mean()
    total: torch.Tensor = distance + 0.3 * edges + 0.02 * shape + 0.002 * outliers
    return total


@torch.no_grad()
def quality(model: Any, pictures: torch.Tensor) -> float:
    """Mean PSNR of pictures that go through, in dB."""
    with torch.autocast("cpu", torch.bfloat16):
        made = [model.taesd_decoder(model.taesd_encoder(p)).float() for p in pictures.split(4)]
    error = (torch.cat(made).clamp(0, 1) - pictures).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())
