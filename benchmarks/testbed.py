"""The bench: our tiny trained Flux in ComfyUI's own sampler, headless, and the measures of what comes out."""

import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PACK = Path(__file__).resolve().parents[1]
# Our folder nodes/ must not hide ComfyUI's nodes.py.
sys.path[:] = [os.environ["COMFYUI_PATH"], *(p for p in sys.path if Path(p or ".").resolve() != PACK)]

import comfy.options  # noqa: E402
import torch  # noqa: E402

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = os.environ.get("SPECA_BENCH_DEVICE", "cpu") == "cpu" or not torch.cuda.is_available()

import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
from comfy.patcher_extension import WrappersMP  # noqa: E402
from kornia.metrics import ssim  # noqa: E402

torch.set_grad_enabled(False)
torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it gives, and makes timings jump
# One thread does all on the CPU, and the time it had is the clock's on a quiet machine; other programs do not count.
clock = time.thread_time if args.cpu else time.perf_counter


def load(name: str, path: Path, package: bool = False) -> ModuleType:
    """A module from a file; a package if it has submodules."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)] if package else None)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


load("speca_pack", PACK / "__init__.py", package=True)
text = load("speca_demo_text", PACK / "demo/custom_nodes/speca_demo_text/__init__.py")


def captions(seed: int, count: int) -> list[str]:
    """Captions like those the model was trained on. A seed gives the same captions everywhere."""
    choice = random.Random(seed).choice
    colours = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black", "gray", "brown"]
    shapes = ["circle", "square", "triangle", "star", "ring", "heart", "cross", "diamond", "hexagon", "moon", "flower"]
    patterns = ["plain", "stripes", "dots", "checks", "waves", "gradient", "rings"]
    made = []
    for _ in range(count):
        thing = lambda: f"a {choice(['small', 'big'])} {choice(colours)} {choice(shapes)}"  # noqa: E731
        relation = f" {choice(['left of', 'right of', 'above', 'below'])} {thing()}" if choice([True, True, False]) else ""
        made.append(f"{thing()}{relation} on {choice(colours)} {choice(patterns)}")
    return made


def conditioning(caption: str) -> list[Any]:
    """Conditioning of the tiny Flux."""
    clip = text.DemoClip()
    made: list[Any] = clip.encode_from_tokens_scheduled(clip.tokenize(caption))
    return made


@dataclass(frozen=True)
class Setting:
    """What is held fixed while methods are compared."""

    steps: int
    cfg: float
    sampler: str = "euler"
    scheduler: str = "simple"
    size: int = 128  # pixels

    @property
    def name(self) -> str:
        """For people and for resuming."""
        return f"{self.sampler} {self.steps} steps, CFG {self.cfg:g}" + ("" if self.size == 128 else f", {self.size} px")


@dataclass(frozen=True)
class Made:
    """One image: its latent [1, 16, h, w], picture [1, 3, H, W] in 0..1, seconds of sampling, evaluations computed (rows)."""

    latent: torch.Tensor
    picture: torch.Tensor
    seconds: float
    evaluations: int


class Testbed:
    """Model and decoder, loaded once."""

    def __init__(self) -> None:
        self.model = comfy.sd.load_diffusion_model(str(PACK / "demo/models/diffusion_models/flux_tiny.safetensors"))
        self.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(PACK / "demo/models/vae/tiny_vae.safetensors")))

    def make(self, setting: Setting, caption: str, seed: int, patch: Callable[[Any], Any] = lambda model: model) -> Made:
        """Sample one image with `patch` applied to the model.

        Evaluations are counted where the model's own forward begins, below every cache; SpeCa's drafts are taken off by its report.
        """
        rows = [0]

        def count(executor: Any, x: torch.Tensor, *rest: Any, **kwargs: Any) -> Any:
            rows[0] += x.shape[0]
            return executor(x, *rest, **kwargs)

        model = patch(self.model).clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
        empty = torch.zeros(1, 16, setting.size // 8, setting.size // 8)
        noise = comfy.sample.prepare_noise(empty, seed)
        began = clock()
        latent = comfy.sample.sample(
            model,
            noise,
            setting.steps,
            setting.cfg,
            setting.sampler,
            setting.scheduler,
            conditioning(caption),
            conditioning(""),
            empty,
            disable_pbar=True,
            seed=seed,
        )
        seconds = clock() - began
        from speca_pack.nodes.runtime.page.report_store import find

        report = find(latent)
        counted = report and report.settings["level"] == "features"  # else a draft does not get as far as the model
        evaluations = report.rows - report.count("accepted") if report and counted else rows[0]
        picture = self.vae.decode(latent).movedim(-1, 1).clamp(0, 1)
        return Made(latent, picture, seconds, evaluations)


def compare(made: Made, plain: Made) -> dict[str, float]:
    """PSNR in dB (100 if equal), SSIM of the decoded pictures, relative L2 distance of the latents."""
    error = (made.picture - plain.picture).square().mean().item()
    distance = torch.linalg.vector_norm(made.latent - plain.latent) / torch.linalg.vector_norm(plain.latent)
    return {
        "psnr": min(100.0, -10 * torch.log10(torch.tensor(error)).item()) if error else 100.0,
        "ssim": ssim(made.picture, plain.picture, window_size=11).mean().item(),
        "latent": distance.item(),
    }
