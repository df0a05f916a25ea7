"""What the pack uses of ComfyUI, by name: a change there fails here first, and says what changed.

A signature is compared as its parameters' names in order. "..." stands for whatever a newer ComfyUI
adds at the end, where the pack only calls; where it stands between caller and called, a new
parameter would be lost, so there the whole signature counts.
"""

import functools
import importlib
import inspect
import re
import sys

import pytest
from comfy.patcher_extension import WrappersMP
from conftest import PACK
from models import build, sample_tiny

# Where wrappers stand: the signatures of what they wrap are those of the wrappers.
WRAPPED = {
    "comfy.samplers.CFGGuider.outer_sample": "self noise latent_image sampler sigmas denoise_mask "
    "callback disable_pbar seed ...",
    "comfy.sampler_helpers._prepare_sampling": "model noise_shape conds model_options ...",
    "comfy.samplers.CFGGuider.predict_noise": "self x timestep model_options seed",
    "comfy.model_base.BaseModel._apply_model": "self x t c_concat c_crossattn control "
    "transformer_options **kwargs",
    "comfy.samplers.KSAMPLER.sample": "self model_wrap sigmas extra_args callback noise "
    "latent_image denoise_mask disable_pbar",
}
# What the pack calls, or stands in for.
CALLED = {
    "comfy.samplers.CFGGuider.__init__": "self model_patcher ...",
    "comfy.samplers.CFGGuider.sample": "self noise latent_image sampler sigmas denoise_mask "
    "callback disable_pbar seed ...",
    "comfy.samplers._calc_cond_batch": "model conds x_in timestep model_options ...",
    "comfy.model_base.BaseModel.apply_model": "self x t c_concat c_crossattn control "
    "transformer_options **kwargs",
    "comfy.model_base.BaseModel.memory_required": "self input_shape ...",
    "comfy.model_patcher.ModelPatcher.add_wrapper_with_key": "self wrapper_type key wrapper ...",
    "comfy.model_patcher.ModelPatcher.get_wrappers": "self wrapper_type key ...",
    "comfy.model_patcher.ModelPatcher.remove_wrappers_with_key": "self wrapper_type key ...",
    "comfy.model_patcher.ModelPatcher.get_model_object": "self name ...",
    "comfy.model_sampling.ModelSamplingDiscrete.percent_to_sigma": "self percent",
    "comfy.model_sampling.ModelSamplingFlux.percent_to_sigma": "self percent",
    "comfy.model_patcher.ModelPatcher.clone": "self ...",
    "comfy.model_patcher.ModelPatcher.model_dtype": "self ...",
    "comfy.model_patcher.ModelPatcher.model_size": "self ...",
    "comfy.model_management.extra_reserved_memory": "...",
    "comfy.model_management.get_free_memory": "dev ...",
    "comfy.model_management.get_torch_device": "...",
    "comfy.model_management.get_torch_device_name": "device ...",
    "comfy.model_management.get_total_memory": "dev ...",
    "comfy.model_management.intermediate_device": "...",
    "comfy.model_management.is_device_cpu": "device ...",
    "comfy.model_management.soft_empty_cache": "...",
    "comfy.sample.fix_empty_latent_channels": "model latent_image ...",
    "comfy.sampler_helpers.prepare_mask": "noise_mask shape device",
    "comfy.sample.prepare_noise": "latent_image seed ...",
    "comfy.sample.sample": "model noise steps cfg sampler_name scheduler positive negative "
    "latent_image denoise disable_noise start_step last_step force_full_denoise noise_mask sigmas "
    "callback disable_pbar seed ...",
    "comfy.utils.pack_latents": "latents ...",
    "comfy.utils.ProgressBar.__init__": "self total ...",
    "comfy_execution.utils.get_executing_context": "...",
    "execution.PromptQueue.get_current_queue_volatile": "self ...",
    "folder_paths.get_user_directory": "...",
    "latent_preview.prepare_callback": "model steps x0_output_dict ...",
    "server.PromptServer.send_sync": "self event data sid ...",
}
# Constants that the pack compares with or looks up.
NAMES = {
    "comfy.patcher_extension.WrappersMP": "OUTER_SAMPLE PREPARE_SAMPLING PREDICT_NOISE APPLY_MODEL "
    "SAMPLER_SAMPLE CALC_COND_BATCH DIFFUSION_MODEL",
    "comfy.samplers": "SAMPLER_NAMES SCHEDULER_NAMES",
    "comfy.memory_management": "aimdo_enabled",
    "comfy.model_management": "InterruptProcessingException OOM_EXCEPTION vram_state",
    "comfy.model_sampling": "CONST",
    "comfy_api.latest": "ComfyExtension io ui",
    "comfy_api.latest.io": "ComfyNode Schema NodeOutput Hidden NumberDisplay Model Latent Vae "
    "Image Float Int String Boolean Combo DynamicCombo Conditioning",
    "comfy_api.latest.ui": "PreviewImage",
    "comfyui_version": "__version__",
}
# Attributes of what exists while a run lasts.
CARRIED = {
    "guider": "model_patcher model_options conds",
    "patcher": "model model_options load_device",
    "sampler": "sampler_function extra_options",
    "executor": "class_obj",
}


def found(path):
    """What lies at a dotted path, from whichever part of it is a module."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        return functools.reduce(getattr, parts[length:], module)
    raise ImportError(f"ComfyUI has no {path}")


def named(function):
    """Its parameters' names, those that take any number with their stars."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(function).parameters.values()
    return [stars.get(each.kind, "") + each.name for each in parameters]


def fits(names, expected):
    """Whether parameters are as expected; see above."""
    *first, last = expected.split()
    if last != "...":
        return names == [*first, last]
    return names[: len(first)] == first


@pytest.mark.parametrize("path", WRAPPED | CALLED)
def test_the_signatures_that_we_use(path):
    expected = (WRAPPED | CALLED)[path]
    names = named(found(path))
    assert fits(names, expected), f"{path} takes {' '.join(names)}; the pack uses {expected}"


@pytest.mark.parametrize("path", NAMES)
def test_the_names_that_we_use(path):
    lacking = [name for name in NAMES[path].split() if not hasattr(found(path), name)]
    assert not lacking, f"{path} has no {', '.join(lacking)}"


def test_what_a_run_carries():
    seen = {}

    def look(executor, noise, latent_image, sampler, *args, **kwargs):
        guider = executor.class_obj
        things = (executor, guider, guider.model_patcher, sampler)
        for name, thing in zip(("executor", "guider", "patcher", "sampler"), things, strict=True):
            seen[name] = [each for each in CARRIED[name].split() if not hasattr(thing, each)]
        seen["options"] = {"transformer_options"} - set(guider.model_options)
        return executor(noise, latent_image, sampler, *args, **kwargs)

    model = build("flux").clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "look", look)
    sample_tiny(model, "flux", steps=1)
    assert seen.keys() == {*CARRIED, "options"}
    assert not any(seen.values()), "ComfyUI's own lack these"


def test_changes_are_seen():
    assert fits(["self", "x"], "self x") and fits(["self", "x", "new"], "self x ...")
    assert not fits(["self", "x", "new"], "self x"), "a wrapper would lose it"
    assert not fits(["self", "y"], "self x ...") and not fits(["self"], "self x ...")


def test_the_tables_have_all_that_the_pack_names():
    """Where a version lacks a name, compat.py asks for it, and nobody else."""
    told = {*WRAPPED, *CALLED} | {
        f"{path}.{name}" for path in NAMES for name in NAMES[path].split()
    }
    used = set()
    for file in (PACK / "nodes").rglob("*.py"):
        if file.name != "compat.py":
            used |= names_in(file.read_text(encoding="utf-8"))
    assert "comfy.sample.sample" in used and "comfy.patcher_extension.WrappersMP" in used
    lacking = {name for name in used if not any(each.startswith(name) for each in told)}
    assert not lacking


def names_in(source):
    """The names that a file imports from ComfyUI's modules, or reads there."""
    imported = re.findall(r"^from (comfy\w*(?:\.\w+)*) import (.+)$", source, re.M)
    names = {f"{module}.{n.split()[0]}" for module, names in imported for n in names.split(", ")}
    return names | {name for name in re.findall(r"\bcomfy\.\w+\.\w+", source) if is_no_text(name)}


def is_no_text(name):
    """Names of modules stand in tables as text."""
    return name.rpartition(".")[0] in sys.modules and name not in sys.modules
