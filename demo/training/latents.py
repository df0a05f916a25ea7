"""Scenes as the model sees them, encoded once: shards of latents and word numbers."""

import os
from pathlib import Path

import numpy as np
import torch

from ..custom_nodes.speca_demo.words import VOCABULARIES
from .autoencoder import load
from .scenes import scene

SHARD, BATCH = 500, 4
FIRST, FIRST_HELD_OUT, HELD_OUT = 1_000_000, 2_000_000, 256  # seeds of scenes


@torch.no_grad()
def encode(autoencoder: Path, folder: Path, shards: int) -> None:
    """Write what is missing of `shards` shards and of the held-out one."""
    model = load(autoencoder).to(torch.bfloat16)
    words = VOCABULARIES["scenes"]

    def write(path: Path, first: int, count: int) -> None:
        latents, numbers = [], []
        for begin in range(first, first + count, BATCH):
            pictures, captions = zip(*(scene(begin + i) for i in range(BATCH)), strict=True)
            x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
            x = x.bfloat16().contiguous(memory_format=torch.channels_last)
            latents.append(model.taesd_encoder(x).half())
            numbers += [words.tokenize(caption) for caption in captions]
        draft = path.with_suffix(".draft")
        torch.save((torch.cat(latents), torch.tensor(numbers)), draft)
        os.replace(draft, path)
        print(f"  {path.name}", flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / "held-out.pt": (FIRST_HELD_OUT, HELD_OUT)}
    wanted |= {folder / f"{i:04d}.pt": (FIRST + SHARD * i, SHARD) for i in range(shards)}
    for path, seeds in wanted.items():
        if not path.exists():
            write(path, *seeds)
