"""ComfyUI's samplers that hindsight works with, and how each responds to what it is served."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ...speca_core.sampler_response import LongStep, SamplerResponse, measure_response
from .harmless import harmless

# Samplers that add no noise and ask at most twice per step; ComfyUI's ddim is its euler. By module,
# as in "sample_euler".
FUNCTIONS = {
    "comfy.k_diffusion.sampling": (
        "euler heun dpm_2 exp_heun_2_x0 dpmpp_2m res_multistep deis ipndm ipndm_v lms "
        "gradient_estimation"
    ),
    "comfy.extra_samplers.uni_pc": "unipc unipc_bh2",
}
# uni_pc, gradient_estimation and dpm_2 look back as well, but otherwise. exp_heun_2_x0 is of Heun's
# kind, and was not measured.
LONG_STEPS = {"heun": LongStep.HEUN} | dict.fromkeys(
    ["dpmpp_2m", "res_multistep", "deis", "ipndm", "ipndm_v", "lms"], LongStep.MULTISTEP
)
IN_THE_MENU = {"unipc": "uni_pc", "unipc_bh2": "uni_pc_bh2"}  # where the sampler has another name
NAMES = [IN_THE_MENU.get(n, n) for names in FUNCTIONS.values() for n in names.split()] + ["ddim"]


def response_of(sampler: Any, guider: Any, sigmas: torch.Tensor) -> SamplerResponse | None:
    """How one of these samplers responds on a schedule; None for any other, and where there is no
    linear response with its options (churn).

    An option that can be called may remember that it was, so such a sampler is not tried.
    """
    function: Any = getattr(sampler, "sampler_function", None)
    options = getattr(sampler, "extra_options", {})
    names = FUNCTIONS.get(getattr(function, "__module__", ""), "").split()
    name = getattr(function, "__name__", "").removeprefix("sample_")
    if name not in names or any(map(callable, options.values())):
        return None
    device = guider.model_patcher.load_device

    def sample(model: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor | None:
        def guided(*args: Any, **kwargs: Any) -> torch.Tensor:
            return model(*args, **kwargs)

        guided.inner_model = guider  # type: ignore[attr-defined]  # for the model's noise scale
        settings = {"extra_args": {}, "callback": None, "disable": True} | options
        # On the run's device: uni_pc's coefficients depend on its rounding. And it writes into the
        # sigmas, hence the copy.
        schedule = sigmas.to(device, torch.float32, copy=True)
        with harmless("trying the sampler out, so that drafts can be corrected later,"):
            # It may need what only a run has.
            return function(guided, x.to(device), schedule, **settings)  # type: ignore[no-any-return]
        return None

    # Churn draws noise, and the run's own comes after it.
    with generators_kept(device):
        response = measure_response(sample, sigmas.tolist())
    return response and replace(response, long_step=LONG_STEPS.get(name, LongStep.EULER))


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """The random generators of the host and of a device are afterwards as they were before.

    PyTorch's own `fork_rng` fails on MPS, which numbers no devices. DirectML has no generator that
    can be read.
    """
    module: Any = getattr(torch, device.type, None)
    own = hasattr(module, "get_rng_state")  # the host's device has none besides the host's
    where = [] if device.type == "mps" else [device]
    state = module.get_rng_state(*where) if own else None
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        if own:
            module.set_rng_state(state, *where)
