"""Verifiers: how a draft is checked before it is served. A new one is a file here and a line in the table."""

from .base import Verifier, relative_error
from .embedded import Embedded
from .first_block import FirstBlock
from .last_block import LastBlock
from .unverified import Unverified

_ALL: tuple[type[Verifier], ...] = (Embedded, LastBlock, FirstBlock, Unverified)
VERIFIERS = {verifier.name: verifier for verifier in _ALL}

__all__ = ["VERIFIERS", "Embedded", "FirstBlock", "LastBlock", "Unverified", "Verifier", "relative_error"]
