"""Verifiers: how a draft is checked before it is served.

A new one is a file here and a line in the table.
"""

from .base import Block, BlockPosition, Verifier
from .embedded import Embedded
from .first_block import FirstBlock
from .innovation import Innovation
from .last_block import LastBlock
from .no_check import NoCheck

_ALL: tuple[type[Verifier], ...] = (Innovation, Embedded, LastBlock, FirstBlock, NoCheck)
VERIFIERS = {verifier.name: verifier for verifier in _ALL}

__all__ = [
    "VERIFIERS",
    "Block",
    "BlockPosition",
    "Embedded",
    "FirstBlock",
    "Innovation",
    "LastBlock",
    "NoCheck",
    "Verifier",
]
