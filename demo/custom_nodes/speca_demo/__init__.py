"""The demo's text encoder: a vocabulary per model, no weights; see `words.py`.

The node hands out an object with the few members that ComfyUI's own text nodes call on a CLIP, so
CLIPTextEncode works unchanged. It belongs to the demo: run.py alone loads it, and it is no part of
the pack that users install.
"""

import torch
from comfy_api.latest import ComfyExtension, io

from .words import VOCABULARIES, Vocabulary


class DemoClip:
    """What CLIPTextEncode needs of a CLIP, and no more."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def tokenize(self, text: str) -> dict[str, list[int]]:
        return {"demo": self.vocabulary.tokenize(text)}

    def encode_from_tokens_scheduled(self, tokens: dict[str, list[int]]) -> list[list[object]]:
        context, pooled = self.vocabulary.encode(torch.tensor([tokens["demo"]]))
        return [[context, {"pooled_output": pooled}]]


class DemoTextEncoder(io.ComfyNode):
    """Hands out the text encoder of one of the demo's models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        known = [f"{name}: {', '.join(v.words[2:])}" for name, v in VOCABULARIES.items()]
        return io.Schema(
            node_id="SpeCaDemoTextEncoder",
            display_name="Demo text encoder",
            category="SpeCa/demo",
            description="The text encoder of the SpeCa demo's models. It knows, for the model\n"
            + "\n".join(known),
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(VOCABULARIES),
                    default="shapes",
                    optional=True,
                    tooltip="Whose words",
                )
            ],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, model: str = "shapes") -> io.NodeOutput:
        return io.NodeOutput(DemoClip(VOCABULARIES[model]))


class DemoTextExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [DemoTextEncoder]


async def comfy_entrypoint() -> ComfyExtension:
    return DemoTextExtension()
