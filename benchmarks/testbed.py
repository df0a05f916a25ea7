"""Our tiny trained Flux in ComfyUI's own sampler, headless, and the measure of a picture."""

import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

PACK = Path(__file__).resolve().parents[1]
# Our folder nodes/ must not hide ComfyUI's nodes.py.
others = [p for p in sys.path if Path(p or ".").resolve() != PACK]
sys.path[:] = [os.environ["COMFYUI_PATH"], *others]

import comfy.options  # noqa: E402
import torch  # noqa: E402

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = os.environ.get("SPECA_BENCH_DEVICE", "cpu") == "cpu" or not torch.cuda.is_available()

import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402

torch.set_grad_enabled(False)
torch.set_num_threads(1)  # tiny tensors: a second thread only makes timings jump
# One thread does all on the CPU, and the time it had is the clock's on a quiet machine; other
# programs do not count.
clock = time.thread_time if args.cpu else time.perf_counter


def load(name: str, path: Path, package: bool = False) -> ModuleType:
    """A module from a file; a package if it has submodules."""
    folders = [str(path.parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


from roughness import Roughness  # noqa: E402

load("speca_pack", PACK / "__init__.py", package=True)
text = load("speca_demo", PACK / "demo/custom_nodes/speca_demo/__init__.py", package=True)

from speca_pack.nodes.runtime.page.report_store import find  # noqa: E402

words = sys.modules["speca_demo.words"]


def shapes(choice: Callable[[Sequence[str]], str]) -> str:
    """A caption like those that the bed of shapes was trained on."""

    def thing() -> str:
        size, colour, shape = map(choice, (words.SIZES, words.COLOURS, words.SHAPES))
        return f"a {size} {colour} {shape}"

    relation = f" {choice(RELATIONS)} {thing()}" if choice(("two", "two", "one")) == "two" else ""
    return f"{thing()}{relation} on {choice(words.COLOURS)} {choice(words.PATTERNS)}"


def scenes(choice: Callable[[Sequence[str]], str]) -> str:
    """A caption like those that the bed of scenes was trained on; two things are far apart."""
    first, *second = choice((("center",), ("left", "right"), ("top left", "bottom right")))
    told = f"a {choice(words.SIZES)} {choice([*words.OBJECTS])} {first}"
    if second:
        told += f", a small {choice([*words.OBJECTS])} {second[0]}"
    return f"{told}, on {choice(words.GROUNDS)}"


RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Bed:
    """A trained tiny Flux.

    Attributes:
        words: vocabulary of its captions.
        weights, decoder: files in demo/models.
        size: pixels of its pictures.
        caption: makes one, by a choice among texts.
        roughness: added to its answers; None: it is as it was trained.
    """

    name: str
    words: str
    weights: str
    decoder: str
    size: int
    caption: Callable[[Callable[..., Any]], str]
    roughness: Roughness | None = None

    def captions(self, seed: int, count: int) -> list[str]:
        """Captions like those the model was trained on. A seed gives the same ones everywhere."""
        choice = random.Random(seed).choice
        return [self.caption(choice) for _ in range(count)]

    def conditioning(self, caption: str) -> list[Any]:
        """Conditioning of the model."""
        clip = text.DemoClip(words.VOCABULARIES[self.words])
        made: list[Any] = clip.encode_from_tokens_scheduled(clip.tokenize(caption))
        return made


BEDS = {
    bed.name: bed
    for bed in (
        Bed("shapes", "shapes", "flux_tiny", "tiny_vae", 128, shapes),
        Bed("scenes", "scenes", "flux_scenes", "scenes_vae", 192, scenes),
        Bed("rough", "scenes", "flux_scenes", "scenes_vae", 192, scenes, Roughness(0.25, 30.0, 4)),
    )
}


@dataclass(frozen=True)
class Setting:
    """What is held fixed while methods are compared."""

    steps: int
    cfg: float
    sampler: str = "euler"
    scheduler: str = "simple"
    size: int | None = None  # pixels; None: the bed's own

    @property
    def name(self) -> str:
        """For people and for resuming."""
        size = "" if self.size is None else f", {self.size} px"
        return f"{self.sampler} {self.steps} steps, CFG {self.cfg:g}{size}"


@dataclass(frozen=True)
class Made:
    """What one sampling made.

    Attributes:
        latent: [images, 16, h, w].
        picture: [images, 3, H, W] in 0..1.
        seconds: of sampling.
        evaluations: rows that the model computed.
    """

    latent: torch.Tensor
    picture: torch.Tensor
    seconds: float
    evaluations: int


def unchanged(model: Any) -> Any:
    """The model itself."""
    return model


class Testbed:
    """A bed's model and decoder, loaded once."""

    def __init__(self, bed: Bed | None = None) -> None:
        self.bed = bed or BEDS["shapes"]
        models = PACK / "demo/models"
        weights = models / f"diffusion_models/{self.bed.weights}.safetensors"
        self.model = comfy.sd.load_diffusion_model(str(weights))
        if self.bed.roughness:
            self._roughen(self.model.model.diffusion_model, self.bed.roughness)
        decoder = models / f"vae/{self.bed.decoder}.safetensors"
        self.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(decoder)))
        self.make(Setting(4, 3.5), self.bed.captions(0, 1)[0], 1)  # the first one is slow

    @staticmethod
    def _roughen(module: Any, roughness: Roughness) -> None:
        """Below the wrappers of other caches: what they answer has no roughness of its own."""
        smooth = module._forward

        def rough(x: torch.Tensor, sigma: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
            return roughness(x, sigma, smooth(x, sigma, *rest, **named))

        module._forward = rough

    def make(
        self,
        setting: Setting,
        caption: str,
        seed: int,
        patch: Callable[[Any], Any] = unchanged,
        images: int = 1,
    ) -> Made:
        """Sample images of one caption with `patch` applied to the model."""
        shape = (images, *self.shape(setting)[1:])
        noise = comfy.sample.prepare_noise(torch.zeros(shape), seed)
        return self._sample(setting, self.bed.conditioning(caption), noise, seed, patch)

    def make_each(
        self,
        setting: Setting,
        captions: Sequence[str],
        seeds: Sequence[int],
        patch: Callable[[Any], Any] = unchanged,
    ) -> Made:
        """One image for each caption and seed, in one batch, each with the noise that it would have
        alone."""
        empty = torch.zeros(self.shape(setting))
        noise = torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds])
        prompts = [self.bed.conditioning(caption)[0] for caption in captions]
        pooled = torch.cat([values["pooled_output"] for _, values in prompts])
        joined = torch.cat([cond for cond, _ in prompts])
        together = [[joined, {**prompts[0][1], "pooled_output": pooled}]]
        return self._sample(setting, together, noise, seeds[0], patch)

    def shape(self, setting: Setting) -> tuple[int, ...]:
        """Of one image's latent."""
        side = (setting.size or self.bed.size) // 8
        return 1, 16, side, side

    def _sample(
        self,
        setting: Setting,
        prompt: list[Any],
        noise: torch.Tensor,
        seed: int,
        patch: Callable[[Any], Any],
    ) -> Made:
        """Evaluations are counted where the model takes in the latents, below every cache. At level
        features a draft comes as far as that, so there SpeCa's report counts. A wrapper would count
        as well, but SpeCa takes it for a patch that looks at the images."""
        rows = 0

        def count(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            nonlocal rows
            rows += inputs[0].shape[0]

        model = patch(self.model)
        counter = self.model.model.diffusion_model.img_in.register_forward_pre_hook(count)
        empty = torch.zeros_like(noise)
        prompts = prompt, self.bed.conditioning("")
        how = setting.steps, setting.cfg, setting.sampler, setting.scheduler
        began = clock()
        try:
            latent = comfy.sample.sample(
                model, noise, *how, *prompts, empty, disable_pbar=True, seed=seed
            )
        finally:
            counter.remove()
        seconds = clock() - began
        report = find(latent)
        if report and report.level == "features":
            rows = report.evaluations
        pictures = [self.vae.decode(one[None]) for one in latent]
        picture = torch.cat(pictures).movedim(-1, 1).clamp(0, 1)
        return Made(latent, picture, seconds, rows)


def psnr(made: Made, plain: Made) -> list[float]:
    """PSNR of each picture in dB, 100 if it is the same."""
    error = (made.picture - plain.picture).square().flatten(1).mean(1).clamp_min(1e-10)
    return (-10 * torch.log10(error)).tolist()  # type: ignore[no-any-return]
