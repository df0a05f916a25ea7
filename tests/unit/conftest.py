"""Unit tests see the core alone: no ComfyUI."""

import sys
from pathlib import Path

import torch
from hypothesis import configuration, settings

PACK = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PACK))
torch.set_num_threads(1)


configuration.set_hypothesis_home_dir(PACK / ".runtime/hypothesis")
settings.register_profile("speca", deadline=None)  # a busy machine is no failure
settings.load_profile("speca")
