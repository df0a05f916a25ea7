"""Unit tests see the core alone: no ComfyUI."""

import sys
from pathlib import Path

import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
torch.set_num_threads(1)


settings.register_profile("speca", deadline=None)  # a busy machine is no failure
settings.load_profile("speca")
