"""Settings that describe themselves.

Each setting is a field of a frozen dataclass, made with `number`, `switch`, `text`, `one_of` or
`entry`. Its default, range, help and place in the node stand in that one line. Validation, the
node's widgets, presets, the docs' tables and the locales' keys all follow from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from .errors import ConfigError

S = TypeVar("S", bound="Settings")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What every kind of setting has.

    Attributes:
        help: the widget's tooltip.
        advanced: the node folds the widget away.
    """

    help: str
    advanced: bool = False

    def read(self, owner: str, default: Any, value: Any) -> Any:
        """The value to keep.

        Args:
            owner: whose setting this is, and its name, for the message: "newton: order".
            default: of the setting.
            value: as it came from a widget, a workflow or a caller.

        Raises:
            ConfigError: the value does not fit.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Number(Rule):
    """A number from `low` to `high`, both included. An integer default takes integers alone.

    Attributes:
        step: of the widget. slider: the widget is one.
        endless: `math.inf` is taken, too: measurements ask to accept everything.
    """

    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    slider: bool = False
    endless: bool = False

    def read(self, owner: str, default: Any, value: Any) -> Any:
        """See `Rule.read`. NaN is in no range."""
        whole = isinstance(default, int)
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not fits or not (self.low <= value <= self.high or (self.endless and value == math.inf)):
            kind = "a whole number" if whole else "a number"
            raise ConfigError(
                f"{owner} is {value!r}; expected {kind} from {self.low:g} to {self.high:g}. "
                "Set it in that range."
            )
        return value


@dataclasses.dataclass(frozen=True)
class Switch(Rule):
    """True or false. Release 0.1.0 saved some switches as 0 and 1; these are read, too."""

    def read(self, owner: str, default: Any, value: Any) -> Any:
        if not isinstance(value, bool) and (not isinstance(value, int) or value not in (0, 1)):
            raise ConfigError(
                f"{owner} is {value!r}; expected true or false. Set it to one of these."
            )
        return bool(value)


@dataclasses.dataclass(frozen=True)
class Text(Rule):
    """A text that `parse` understands; it raises ConfigError if it cannot."""

    parse: Callable[[str], object] = str

    def read(self, owner: str, default: Any, value: Any) -> Any:
        if not isinstance(value, str):
            raise ConfigError(f"{owner} is {value!r}; expected text. {self.help}")
        self.parse(value)
        return value


@dataclasses.dataclass(frozen=True)
class OneOf(Rule):
    """One of some names, each with its own help."""

    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def read(self, owner: str, default: Any, value: Any) -> Any:
        if not isinstance(value, str) or value not in self.options:
            raise _not_among(owner, value, self.options)
        return value


@dataclasses.dataclass(frozen=True)
class Entry(Rule):
    """An entry of a table of `Settings`, with that entry's own settings."""

    table: Mapping[str, type[Settings]] = dataclasses.field(default_factory=dict)

    def read(self, owner: str, default: Any, value: Any) -> Any:
        """See `Rule.read`. `{"name": "newton", "order": 1}` becomes `Newton(order=1)`, and
        `"newton"` becomes `Newton()`."""
        if hasattr(value, "to_dict"):
            return value  # made by a caller
        values = dict(value) if isinstance(value, Mapping) else {"name": value}
        name = values.pop("name", None)
        if not isinstance(name, str) or name not in self.table:
            raise _not_among(owner, name, self.table)
        return self.table[name].build(values)


def _not_among(owner: str, value: object, names: Mapping[str, object]) -> ConfigError:
    found = f"{owner} is {value!r}; expected one of {', '.join(names)}."
    return ConfigError(f"{found} Choose one of these.")


def number(default: float, low: float, high: float, step: float, help: str, **place: bool) -> Any:
    """A field for a number; an integer default makes it a whole one."""
    return _field(default, Number(help, low=low, high=high, step=step, **place))


def switch(default: bool, help: str, advanced: bool = False) -> Any:
    """A field for true or false."""
    return _field(default, Switch(help, advanced))


def text(default: str, help: str, parse: Callable[[str], object]) -> Any:
    """A field for a text that `parse` understands."""
    return _field(default, Text(help, parse=parse))


def one_of(default: str, options: Mapping[str, str], help: str, advanced: bool = False) -> Any:
    """A field for one of some names."""
    return _field(default, OneOf(help, advanced, options))


def entry(default: type[Settings], table: Mapping[str, Any], help: str) -> Any:
    """A field for an entry of a table."""
    return dataclasses.field(default_factory=default, metadata={"rule": Entry(help, table=table)})


def _field(default: Any, rule: Rule) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule})


def settings_of(settings: Any) -> dict[str, tuple[Any, Rule]]:
    """Name -> (default, rule) of each setting of a class or instance, as declared."""

    def default(field: dataclasses.Field[Any]) -> Any:
        made = field.default_factory
        return field.default if made is dataclasses.MISSING else made()

    fields = [field for field in dataclasses.fields(settings) if "rule" in field.metadata]
    return {field.name: (default(field), field.metadata["rule"]) for field in fields}


class Settings:
    """Base of the frozen settings dataclasses.

    Attributes:
        name: key in its table, and what messages call it.
        help: one line for the widget's tooltip.
    """

    name: ClassVar[str]
    help: ClassVar[str]

    def __post_init__(self) -> None:
        for field, (default, rule) in settings_of(self).items():
            value = rule.read(f"{self.name}: {field}", default, getattr(self, field))
            object.__setattr__(self, field, value)

    @classmethod
    def build(cls: type[S], values: Mapping[str, Any]) -> S:
        """The settings with some values, by name; all others are the defaults.

        Raises:
            ConfigError: a name is unknown, or a value does not fit.
        """
        known = settings_of(cls)
        if unknown := sorted(map(str, set(values) - set(known))):
            raise ConfigError(
                f"{cls.name} has no setting {', '.join(unknown)}; expected "
                f"{', '.join(known) or 'none'}. Remove the unknown ones."
            )
        return cls(**values)

    def values(self) -> dict[str, Any]:
        """The settings as JSON-ready values, by name."""
        found = {field: getattr(self, field) for field in settings_of(self)}
        return {
            field: value.to_dict() if hasattr(value, "to_dict") else value
            for field, value in found.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """{"name": ..., setting: value, ...}: what `Entry` reads."""
        return {"name": self.name, **self.values()}
