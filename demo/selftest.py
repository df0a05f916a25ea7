"""What works on this machine's device, in plain words: `python3 run.py check --device`.

It samples the demo's tiny model with and without SpeCa, where ComfyUI would, and needs a minute or
two. This module runs in ComfyUI's environment, as a part of the pack; it takes ComfyUI's options.
"""

import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.options

comfy.options.enable_args_parsing()
import comfy.model_management
import comfy.sample
import comfy.sd
import torch

from ..nodes.runtime.attach import accelerate
from ..nodes.runtime.page.diagnose import diagnose
from ..nodes.runtime.page.report_store import find
from ..nodes.runtime.profiles import ProfileStore
from ..nodes.runtime.subjects.prediction import PredictionRun
from ..speca_core import SpecaConfig
from ..speca_core.config import WITHOUT_PROFILE
from ..speca_core.report import RunReport
from .custom_nodes.speca_demo.words import VOCABULARIES

MODEL = Path(__file__).resolve().parents[1] / "demo/models/diffusion_models/flux_tiny.safetensors"
CAPTION = "a big red circle left of a small blue star on green stripes"
STEPS = 20
NEAR = 0.25  # relative distance of a latent from the plain one: the default's is a fifth of it
SMALL = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}  # rounding


class Fails(Exception):
    """What does not work, in plain words."""


class HostRun(PredictionRun):
    """As where the device has no room for the anchors."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.session.place_anchors_on(torch.device("cpu"))


def load(dtype: torch.dtype | None = None) -> Any:
    """The demo's model; in ComfyUI's own choice of numbers, if no other is asked for."""
    options = {} if dtype is None else {"dtype": dtype}
    return comfy.sd.load_diffusion_model(str(MODEL), model_options=options)


def sample(model: Any) -> torch.Tensor:
    """Two pictures' latents."""
    words = VOCABULARIES["shapes"]
    prompts = []
    for text in (CAPTION, ""):
        context, pooled = words.encode(torch.tensor([words.tokenize(text)]))
        prompts.append([[context, {"pooled_output": pooled}]])
    empty = torch.zeros(2, 16, 16, 16)
    noise = comfy.sample.prepare_noise(empty, 5)
    latent: torch.Tensor = comfy.sample.sample(
        model, noise, STEPS, 3.0, "euler", "simple", *prompts, empty, disable_pbar=True, seed=5
    )
    return latent


class Checks:
    """The checks, in order; each returns what it has found.

    Attributes:
        report: of the newest accelerated run.
    """

    def __init__(self, profiles: ProfileStore) -> None:
        self.profiles = profiles
        self.model = load()
        self.plain = sample(self.model)
        self.report: RunReport | None = None

    def all(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """By title."""
        yield "the same pictures twice without SpeCa", self.repeats
        yield "the first run of a model teaches", self.teaches
        yield "threshold 0 is the plain model", lambda: self.equal(SpecaConfig(0.0))
        yield "drafts that are all refused leave no trace", lambda: self.equal(checked(1e-6))
        yield "the next run drafts", lambda: self.drafts(SpecaConfig())
        yield "drafts inside the model", lambda: self.drafts(SpecaConfig(level="features"))
        yield "anchors on the host", lambda: self.drafts(checked(0.1), run=HostRun)
        for dtype in (torch.bfloat16, torch.float16):
            yield f"numbers of the kind {str(dtype)[6:]}", functools.partial(self.of, dtype)

    def repeats(self) -> str:
        off = distance(sample(self.model), self.plain)
        if off:
            raise Fails(f"they are apart by {off:.1e}: this device does not repeat itself")
        return "bit for bit"

    def equal(self, config: SpecaConfig) -> str:
        made, report = self.run(config)
        if not torch.equal(made, self.plain):
            off = distance(made, self.plain)
            if off > SMALL[self.model.model_dtype()] or report.settings["threshold"] == 0:
                raise Fails(f"the pictures are apart by {off:.1e}")
            return f"apart by {off:.1e}, rounding"
        return "bit for bit"

    def teaches(self) -> str:
        made, report = self.run(SpecaConfig())
        if (report.profile or {}).get("state") != "learning" or not self.profiles.all():
            raise Fails(f"no profile was made of it: {report.profile}")
        return f"a profile was made of it, {distance(made, self.plain):.1e} from plain"

    def drafts(self, config: SpecaConfig, **options: Any) -> str:
        """A run must draft, and end near the plain one."""
        made, report = self.run(config, **options)
        drafted, off = report.count("accepted"), distance(made, self.plain)
        if not drafted or not off < NEAR:
            raise Fails(f"{drafted} of {report.rows} answers were drafts, {off:.3f} from plain")
        full, draft = (report.seconds_per_call(accepted=each) for each in (False, True))
        times = f"; a call takes {full:.4f} s, a draft {draft:.4f} s" if full and draft else ""
        return f"{drafted} of {report.rows} answers were drafts, {off:.3f} from plain{times}"

    def of(self, dtype: torch.dtype) -> str:
        """The same with weights of another kind."""
        own, plain = self.model, self.plain
        try:
            self.model = load(dtype)
            self.plain = sample(self.model)
            return self.drafts(checked(0.1))
        finally:
            self.model, self.plain = own, plain

    def run(self, config: SpecaConfig, **options: Any) -> tuple[torch.Tensor, RunReport]:
        made = sample(accelerate(self.model, config, profiles=self.profiles, **options))
        self.report = find(made)
        if self.report is None or not bool(torch.isfinite(made).all()):
            raise Fails("the pictures are no numbers" if self.report else "there is no report")
        return made, self.report


def checked(threshold: float) -> SpecaConfig:
    """Drafts that are checked one by one."""
    return SpecaConfig(threshold, **WITHOUT_PROFILE)


def distance(made: torch.Tensor, truth: torch.Tensor) -> float:
    """Relative, of the worst picture."""
    off, size = ((a - b).flatten(1).float().norm(dim=1) for a, b in ((made, truth), (truth, 0)))
    return float((off / size).max())


def main() -> int:
    """Check one thing after the other, also after a failure. Returns 1 if any failed."""
    device = comfy.model_management.get_torch_device()
    print(f"device: {comfy.model_management.get_torch_device_name(device)}", flush=True)
    begun, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(ProfileStore(Path(folder)))
        for title, check in checks.all():
            try:
                said = f"works: {check()}"
            except Exception as error:
                failed += 1
                said = f"FAILS: {error}" if isinstance(error, Fails) else f"FAILS: {error!r}"
            print(f"  {title:<44}{said}", flush=True)
    if checks.report is not None:
        print(f"\nfor a bug report, of the last run:\n{diagnose(checks.report)}")
    print(f"\n{f'{failed} failed' if failed else 'all works'}, {time.monotonic() - begun:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
