"""Everything SpeCa raises on purpose.

    SpecaError
    +-- ConfigError        a setting is unknown or out of range (also a ValueError)
    +-- UnsupportedModel   the model cannot be accelerated, with the reason (also a TypeError)

Each message says what was found, what was expected and what to do. They are raised before sampling
starts; what only a call can show, such as the blocks of a model that SpeCa has no entry for, at the
first call.
"""


class SpecaError(Exception):
    """Base of every error that SpeCa raises on purpose."""

    __module__ = (
        "speca"  # ComfyUI shows it; a custom node's module is called by the path it was loaded from
    )


class ConfigError(SpecaError, ValueError):
    """A setting is unknown or out of range."""

    __module__ = SpecaError.__module__


class UnsupportedModel(SpecaError, TypeError):
    """The loaded model has no stack of transformer blocks that SpeCa knows how to draft."""

    __module__ = SpecaError.__module__
