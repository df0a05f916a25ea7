"""Settings that describe themselves.

Forecasters, verifiers and budgets are frozen dataclasses whose fields are made with `knob`. The range and the help text stand
beside the default, once: validation, the node's widgets and the docs all read them from here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from .errors import ConfigError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Knob:
    """Range (inclusive), step and help text of one numeric setting; the type is the type of the default."""

    low: float
    high: float
    step: float
    help: str


@dataclasses.dataclass(frozen=True)
class Text:
    """Help text of a setting that is text, and what reads it: it raises ConfigError if it cannot."""

    help: str
    read: Callable[[str], object]


def text(default: str, help: str, read: Callable[[str], object]) -> Any:
    """A dataclass field for a text that `read` understands."""
    return dataclasses.field(default=default, metadata={"knob": Text(help, read)})


def knob(default: float, low: float, high: float, step: float, help: str) -> Any:
    """A dataclass field for a number in `low`..`high`; an int default makes it an integer setting."""
    return dataclasses.field(default=default, metadata={"knob": Knob(low, high, step, help)})


def knobs_of(settings: Any) -> dict[str, tuple[Any, Knob | Text]]:
    """Name -> (default, knob) of every knob, number or text, of a settings class or instance, in order of declaration."""
    return {f.name: (f.default, f.metadata["knob"]) for f in dataclasses.fields(settings) if "knob" in f.metadata}


def check(owner: str, name: str, value: object, default: object, rule: Knob | Text) -> None:
    """Raise ConfigError unless `value` is a number of the right type in the knob's range, which NaN is not, or a text that can be read."""
    if isinstance(rule, Text):
        if not isinstance(value, str):
            raise ConfigError(f"{owner}: {name} is {value!r}; expected text. {rule.help}")
        rule.read(value)
        return
    whole = isinstance(default, int)
    ok = isinstance(value, int) if whole else isinstance(value, int | float)
    if not ok or isinstance(value, bool) or not rule.low <= value <= rule.high:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{owner}: {name} is {value!r}; expected {kind} from {rule.low:g} to {rule.high:g}. Set it in that range.")


class Settings:
    """Base of the frozen settings dataclasses: a `name` (its key in the table), a one-line `help`, validated knobs."""

    name: ClassVar[str]
    help: ClassVar[str]

    def __post_init__(self) -> None:
        for field, (default, rule) in knobs_of(self).items():
            check(self.name, field, getattr(self, field), default, rule)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values: {"name": ..., knob: value, ...}."""
        return {"name": self.name, **{field: getattr(self, field) for field in knobs_of(self)}}


def make(table: Mapping[str, type[T]], kind: str, name: object, values: Mapping[str, Any]) -> T:
    """Build one entry of a table from widget values.

    Raises:
        ConfigError: the name is not in the table, a knob does not exist or is out of range.
    """
    if not isinstance(name, str) or name not in table:
        raise ConfigError(f"{kind} is {name!r}; expected one of {', '.join(table)}. Choose one of these.")
    settings = table[name]
    known = knobs_of(settings)
    if unknown := sorted(map(str, set(values) - set(known))):
        raise ConfigError(
            f"{kind} {name} has no setting {', '.join(unknown)}; it has {', '.join(known) or 'none'}. Remove the unknown ones."
        )
    return settings(**values)
