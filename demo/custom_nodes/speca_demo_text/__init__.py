"""The demo's text encoder: a vocabulary of 36 words, no weights.

The demo model was trained on captions such as "a big red circle left of a small blue star on green
stripes". Its "text encoder" is arithmetic: a caption becomes twelve word numbers, and a word number
becomes a one-hot vector beside the one-hot of its place. The node hands out an object with the few
members that ComfyUI's own text nodes call on a CLIP, so CLIPTextEncode works unchanged.

This belongs to the demo. It is loaded by run.py alone and is no part of the pack that users install.
"""

import logging

import torch
from comfy_api.latest import ComfyExtension, io

SIZES = ("small", "big")
COLOURS = (
    *("red", "orange", "yellow", "green", "cyan", "blue"),
    *("purple", "pink", "white", "black", "gray", "brown"),
)
SHAPES = (
    *("circle", "square", "triangle", "star", "ring", "heart"),
    *("cross", "diamond", "hexagon", "moon", "flower"),
)
RELATIONS = ("left", "right", "above", "below")
PATTERNS = ("plain", "stripes", "dots", "checks", "waves", "gradient", "rings")

# A word's number is its place in this tuple. The trained weights depend on the order: append only.
VOCABULARY = ("<pad>", "<unknown>", *SIZES, *COLOURS, *SHAPES, *RELATIONS, *PATTERNS)
NUMBER = {word: number for number, word in enumerate(VOCABULARY)}
PAD, UNKNOWN = 0, 1

IGNORED = frozenset({"a", "an", "the", "of", "on", "with", "background", "is", "and", "moving"})
SYNONYMS = {
    "large": "big",
    "up": "above",
    "down": "below",
    "grey": "gray",
    "disc": "circle",
    "striped": "stripes",
    "dotted": "dots",
    "checkered": "checks",
}

CAPTION_LENGTH = 12  # words the model reads
WORD_WIDTH = 64  # one-hot width of a word: the vocabulary with room to grow
PLACE_WIDTH = 16  # one-hot width of a place

log = logging.getLogger(__name__)


def words_of(caption: str) -> list[str]:
    """The words of `caption` that carry meaning, synonyms replaced."""
    spoken = caption.lower().replace(",", " ").replace(".", " ").split()
    return [SYNONYMS.get(word, word) for word in spoken if word not in IGNORED]


def tokenize(caption: str) -> list[int]:
    """`caption` as exactly `CAPTION_LENGTH` word numbers, padded at the end."""
    words = words_of(caption)
    if strange := [word for word in words if word not in NUMBER]:
        known = ", ".join(VOCABULARY[2:])
        log.warning("The demo model doesn't know: %s. It knows: %s.", ", ".join(strange), known)
    if len(words) > CAPTION_LENGTH:
        ignored = " ".join(words[CAPTION_LENGTH:])
        log.warning("The demo model reads %d words; ignored: %s.", CAPTION_LENGTH, ignored)
    numbers = [NUMBER.get(word, UNKNOWN) for word in words[:CAPTION_LENGTH]]
    return numbers + [PAD] * (CAPTION_LENGTH - len(numbers))


def encode(numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Word numbers as the model's conditioning.

    Returns:
        The context, float32 [1, CAPTION_LENGTH, WORD_WIDTH + PLACE_WIDTH], and the pooled vector,
        float32 [1, WORD_WIDTH]: how often each word occurs, padding not counted.
    """
    words = torch.nn.functional.one_hot(torch.tensor([numbers]), WORD_WIDTH).float()
    places = torch.eye(CAPTION_LENGTH, PLACE_WIDTH)[None]
    pooled = words.sum(dim=1)
    pooled[:, PAD] = 0.0
    return torch.cat((words, places), dim=-1), pooled


class DemoClip:
    """What CLIPTextEncode needs of a CLIP, and no more."""

    def tokenize(self, text: str) -> dict[str, list[int]]:
        return {"demo": tokenize(text)}

    def encode_from_tokens_scheduled(self, tokens: dict[str, list[int]]) -> list[list[object]]:
        context, pooled = encode(tokens["demo"])
        return [[context, {"pooled_output": pooled}]]


class DemoTextEncoder(io.ComfyNode):
    """Hands out the demo's text encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpeCaDemoTextEncoder",
            display_name="Demo text encoder",
            category="SpeCa/demo",
            description="The toy text encoder of the SpeCa demo model. It knows: " + ", ".join(VOCABULARY[2:]) + ".",
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(DemoClip())


class DemoTextExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [DemoTextEncoder]


async def comfy_entrypoint() -> ComfyExtension:
    return DemoTextExtension()
