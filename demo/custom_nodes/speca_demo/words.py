"""What the demo's models read: a caption becomes word numbers, and these become one-hot
vectors.

No weights. The trained models depend on the order of the words: append only.
"""

import logging
from dataclasses import dataclass, field

import torch

PAD, UNKNOWN = 0, 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vocabulary:
    """The words of one model.

    Attributes:
        words: a word's number is its place here; the first two are padding and unknown.
        ignored: words without meaning for the model.
        synonyms: by word.
        length: words that the model reads.
        word_width, place_width: one-hot widths, with room to grow.
    """

    words: tuple[str, ...]
    ignored: frozenset[str]
    length: int
    word_width: int
    place_width: int = 16
    synonyms: dict[str, str] = field(default_factory=dict)

    def tokenize(self, caption: str) -> list[int]:
        """A caption as exactly `length` word numbers, padded at the end."""
        spoken = caption.lower().replace(",", " ").replace(".", " ").split()
        words = [self.synonyms.get(word, word) for word in spoken if word not in self.ignored]
        numbers = {word: number for number, word in enumerate(self.words)}
        if strange := [word for word in words if word not in numbers]:
            known = ", ".join(self.words[2:])
            log.warning("The demo model doesn't know: %s. It knows: %s.", ", ".join(strange), known)
        if len(words) > self.length:
            rest = " ".join(words[self.length :])
            log.warning("The demo model reads %d words; ignored: %s.", self.length, rest)
        found = [numbers.get(word, UNKNOWN) for word in words[: self.length]]
        return found + [PAD] * (self.length - len(found))

    def encode(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Word numbers as the model's conditioning.

        Args:
            numbers: [captions, length], int64.

        Returns:
            The context, float32 [captions, length, word_width + place_width], and the pooled
            vector, float32 [captions, word_width]: how often each word occurs, without padding.
        """
        words = torch.nn.functional.one_hot(numbers, self.word_width).float()
        places = torch.eye(self.length, self.place_width).expand(len(numbers), -1, -1)
        pooled = words.sum(dim=1)
        pooled[:, PAD] = 0.0
        return torch.cat((words, places), dim=-1), pooled


# fmt: off
SIZES = ("small", "big")
COLOURS = (
    "red", "orange", "yellow", "green", "cyan", "blue",
    "purple", "pink", "white", "black", "gray", "brown",
)
SHAPES = (
    "circle", "square", "triangle", "star", "ring", "heart",
    "cross", "diamond", "hexagon", "moon", "flower",
)
RELATIONS = ("left", "right", "above", "below")
PATTERNS = ("plain", "stripes", "dots", "checks", "waves", "gradient", "rings")
PLACES = ("left", "right", "top", "bottom", "center")
GROUNDS = (
    "grass", "sand", "sea", "sky", "snow", "wood", "brick", "night", "leaves", "stone",
)
OBJECTS = {  # the picture of each in the package @lobehub/fluent-emoji-3d
    "apple": "1f34e", "lemon": "1f34b", "orange": "1f34a", "grapes": "1f347",
    "strawberry": "1f353", "melon": "1f349", "cherries": "1f352", "avocado": "1f951",
    "eggplant": "1f346", "carrot": "1f955", "chili": "1f336-fe0f", "mushroom": "1f344",
    "broccoli": "1f966", "pizza": "1f355", "burger": "1f354", "donut": "1f369",
    "cookie": "1f36a", "cake": "1f382", "cheese": "1f9c0", "cat": "1f431", "dog": "1f436",
    "fox": "1f98a", "bear": "1f43b", "panda": "1f43c", "koala": "1f428", "tiger": "1f42f",
    "lion": "1f981", "cow": "1f42e", "pig": "1f437", "frog": "1f438", "monkey": "1f435",
    "rabbit": "1f430", "penguin": "1f427", "owl": "1f989", "chick": "1f424", "fish": "1f41f",
    "octopus": "1f419", "crab": "1f980", "turtle": "1f422", "butterfly": "1f98b",
    "ladybug": "1f41e", "whale": "1f433", "snail": "1f40c", "car": "1f697", "bus": "1f68c",
    "tractor": "1f69c", "rocket": "1f680", "boat": "26f5", "balloon": "1f388", "gift": "1f381",
    "football": "26bd", "basketball": "1f3c0", "blossom": "1f338", "sunflower": "1f33b",
    "rose": "1f339", "cactus": "1f335", "clover": "1f340", "star": "2b50",
    "heart": "2764-fe0f", "snowman": "26c4", "pumpkin": "1f383", "ghost": "1f47b",
    "robot": "1f916", "earth": "1f30d",
}
# fmt: on

SPECIAL = ("<pad>", "<unknown>")
VOCABULARIES = {
    "shapes": Vocabulary(
        (*SPECIAL, *SIZES, *COLOURS, *SHAPES, *RELATIONS, *PATTERNS),
        frozenset({"a", "an", "the", "of", "on", "with", "background", "is", "and", "moving"}),
        length=12,
        word_width=64,
        synonyms={
            "large": "big",
            "up": "above",
            "down": "below",
            "grey": "gray",
            "disc": "circle",
            "striped": "stripes",
            "dotted": "dots",
            "checkered": "checks",
        },
    ),
    "scenes": Vocabulary(
        (*SPECIAL, *SIZES, *PLACES, *GROUNDS, *OBJECTS),
        frozenset({"a", "an", "the", "on", "in", "at", "and"}),
        length=16,
        word_width=128,
    ),
}
