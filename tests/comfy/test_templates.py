"""ComfyUI's official workflow templates with the SpeCa node before the sampler, through ComfyUI's
own executor."""

import asyncio
import copy
import json

import execution
import pytest
import server
import torch
from models import PACK, build
from speca_pack.nodes.runtime.page.report_store import find
from tiny import TINY, random
from workflows import GUIDED, SAMPLERS, prompt_of

import nodes as core

ACCELERATE = json.loads((PACK / "demo/workflow_api.json").read_text(encoding="utf-8"))["7"][
    "inputs"
]

# Template, tiny model(s) in the order in which their loaders appear, what the latent node is told.
TEMPLATES = {
    "flux_dev_full_text_to_image": ("flux", {}),
    "flux_schnell_full_text_to_image": ("flux", {}),
    "image_flux2_text_to_image": ("flux2", {}),
    "image_chroma_text_to_image": ("chroma", {}),
    "image_chroma1_radiance_text_to_image": ("radiance", {}),
    "image_qwen_image": ("qwen", {}),
    "image_z_image_turbo": ("z_image", {}),
    "image_netayume_lumina_t2i": ("lumina", {}),
    "sd3.5_simple_example": ("sd3", {}),
    "hidream_i1_full": ("hidream", {}),
    "image_omnigen2_t2i": ("omnigen2", {}),
    "image_kandinsky5_t2i": ("kandinsky", {}),
    "hunyuan_video_text_to_video": ("hunyuan_video", {}),
    "text_to_video_wan": ("wan", {}),
    "video_wan2_2_14B_t2v": ("wan", {}),
    "ltxv_text_to_video": ("ltxv", {}),
    "audio_stable_audio_example": ("stable_audio", {}),
    "audio_ace_step_1_t2a_song": ("ace", {}),
}
SMALL = {"width": 64, "height": 64, "length": 9, "batch_size": 1, "seconds": 1.0}


class TinyModel:
    """In place of a loader: a tiny random model of the family."""

    made = {}  # noqa: RUF012
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "load", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {}), "seed": ("INT", {})}}

    def load(self, name, seed):
        if (name, seed) not in self.made:
            self.made[name, seed] = build(name, seed)
        return (self.made[name, seed],)


class TinyText:
    """In place of a text encoder."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "encode", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {}), "seed": ("INT", {})}}

    def encode(self, name, seed):
        return ([[random(seed, 1, *TINY[name].text), TINY[name].extra(seed)]],)


class Keep:
    """In place of the decoder: keeps the latent."""

    kept = []  # noqa: RUF012
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "keep", "tests", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT", {})}}

    def keep(self, samples):
        self.kept.append(samples["samples"])
        return ()


@pytest.fixture(scope="module")
def executor(nodes):
    """ComfyUI's own, with its own nodes, ours and those above."""
    asyncio.run(core.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
    core.NODE_CLASS_MAPPINGS.update(
        nodes | {"TinyModel": TinyModel, "TinyText": TinyText, "Keep": Keep}
    )
    loop = asyncio.new_event_loop()
    yield execution.PromptExecutor(
        server.PromptServer(loop), execution.CacheType.NONE, {"ram": 0.0, "ram_inactive": 0.0}
    )
    del server.PromptServer.instance  # the tests after these run without a server
    loop.close()
    for name in (*nodes, "TinyModel", "TinyText", "Keep"):
        del core.NODE_CLASS_MAPPINGS[name]


def tiny_prompt(template):
    """The template's prompt with tiny models and encoders; one Keep per sampler."""
    family, latent = TEMPLATES[template]
    seeds = {}

    def replaced(node, slot, kind):
        if kind == "MODEL" and not any(held["type"] == "MODEL" for held in node.get("inputs", [])):
            return ["TinyModel", {"name": family, "seed": seeds.setdefault(node["id"], len(seeds))}]
        if kind == "CONDITIONING" and any(
            held["type"] == "CLIP" for held in node.get("inputs", [])
        ):
            return ["TinyText", {"name": family, "seed": seeds.setdefault(node["id"], len(seeds))}]
        return None

    prompt, samplers = prompt_of(template, replaced)
    for name, entry in list(prompt.items()):
        inputs = entry["inputs"]
        if entry["class_type"].startswith("Empty"):
            inputs.update({key: value for key, value in (SMALL | latent).items() if key in inputs})
        elif entry["class_type"] in ("ModelSamplingFlux", "Flux2Scheduler"):
            inputs.update(width=64, height=64)
        if isinstance(inputs.get("steps"), int):
            inputs["steps"] = max(10, min(20, inputs["steps"]))
        if entry["class_type"] in SAMPLERS:
            prompt[f"{name}:keep"] = {"class_type": "Keep", "inputs": {"samples": [name, 0]}}
    return prompt, samplers


def accelerated(prompt, threshold):
    """The SpeCa node on every model that goes into a sampler or a guider."""
    prompt = copy.deepcopy(prompt)
    for name, entry in list(prompt.items()):
        if entry["class_type"] in GUIDED:
            prompt[f"{name}:speca"] = {
                "class_type": "SpeCaAccelerate",
                "inputs": ACCELERATE | {"model": entry["inputs"]["model"], "threshold": threshold},
            }
            entry["inputs"]["model"] = [f"{name}:speca", 0]
    return prompt


def run(executor, prompt):
    """The latents of the prompt's samplers."""
    Keep.kept.clear()
    outputs = [name for name in prompt if name.endswith(":keep")]
    with torch.inference_mode(False):
        executor.execute(prompt, "test", {}, outputs)
    assert executor.success, [
        message for message in executor.status_messages if message[0] == "execution_error"
    ]
    assert len(Keep.kept) == len(outputs)
    return list(Keep.kept)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_with_speca_before_its_samplers(executor, template):
    prompt, samplers = tiny_prompt(template)
    valid, error, _, errors = asyncio.run(
        execution.validate_prompt("test", accelerated(prompt, 0.0), None)
    )
    assert valid, (error, errors)
    plain = run(executor, prompt)
    assert all(
        torch.equal(a, b)
        for a, b in zip(run(executor, accelerated(prompt, 0.0)), plain, strict=True)
    )
    latents = run(executor, accelerated(prompt, 1.0))
    assert len(latents) == len(samplers) >= 1
    for latent in latents:
        report = find(latent)
        assert torch.isfinite(latent).all() and report.finished, report.summary
        # Some versions' templates have a LoRA for two steps, which may leave nothing to draft.
        assert report.count("accepted") > 0 or report.steps <= 4, report.summary
