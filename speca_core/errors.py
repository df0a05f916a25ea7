"""Everything SpeCa raises on purpose.

    SpecaError
    +-- ConfigError        a setting is unknown or out of range (also a ValueError)
    +-- UnsupportedModel   the model cannot be accelerated, with the reason (also a TypeError)

Each message says what was found, what was expected and what to do. All of them are raised before sampling starts.
"""


class SpecaError(Exception):
    """Base of every error that SpeCa raises on purpose."""


class ConfigError(SpecaError, ValueError):
    """A setting is unknown or out of range."""


class UnsupportedModel(SpecaError, TypeError):
    """The loaded model has no stack of transformer blocks that SpeCa knows how to draft."""
