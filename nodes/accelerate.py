"""SpeCa: the node that people drag into a graph."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.latest import io

from ..speca_core import SpecaConfig
from ..speca_core.settings import Entry, Number, OneOf, Rule, Switch, Text, settings_of
from .runtime.attach import accelerate
from .runtime.page.events import found
from .runtime.page.workflow_metadata import PROFILE, node_at
from .runtime.samplers import NAMES
from .runtime.sampling import TAUGHT

log = logging.getLogger("speca")
NOTES = {"hindsight": f"Works with {', '.join(NAMES)}"}  # what only ComfyUI's side knows


def widget(name: str, default: Any, rule: Rule, nested: bool = False) -> io.Input:
    """The widget of one setting. All but the first are optional inputs with a default, so that a
    prompt of the API names only what it changes. The knobs of a combo's entry are folded away."""
    about: dict[str, Any] = {"tooltip": ". ".join(filter(None, (rule.help, NOTES.get(name))))}
    about |= {"optional": True, "advanced": nested or rule.advanced or None}
    match rule:
        case Number():
            whole = isinstance(default, int)
            make = io.Int.Input if whole else io.Float.Input
            low, high, step = (int(n) if whole else n for n in (rule.low, rule.high, rule.step))
            about["tooltip"] += f" ({rule.low:g} to {rule.high:g})"
            if rule.slider:
                about |= {"display_mode": io.NumberDisplay.slider, "optional": False}
            return make(name, default=default, min=low, max=high, step=step, **about)
        case Switch():
            return io.Boolean.Input(name, default=default, **about)
        case Text():
            return io.String.Input(name, default=default, **about)
        case OneOf():
            about["tooltip"] += listed(rule.options)
            return io.Combo.Input(name, options=list(rule.options), default=default, **about)
        case Entry():
            about["tooltip"] += listed({key: entry.help for key, entry in rule.table.items()})
            options = [
                io.DynamicCombo.Option(
                    key, [widget(n, *s, nested=True) for n, s in settings_of(entry).items()]
                )
                for key, entry in rule.table.items()
            ]
            del about["advanced"]
            return io.DynamicCombo.Input(name, options=options, **about)
    raise TypeError(f"{name}: no widget for {type(rule).__name__}")


def listed(helps: Mapping[str, str]) -> str:
    """Names and what each is, for a tooltip."""
    return "".join(f"\n{name}: {help}" for name, help in helps.items())


def names_of(config: SpecaConfig) -> Iterator[str]:
    """The names under which a prompt sends the settings that a config has."""
    for name in settings_of(config):
        yield name
        choice = getattr(config, name)
        yield from (f"{name}.{knob}" for knob in getattr(choice, "values", dict)())


def chosen(name: str, value: Any, sent: Mapping[str, Any]) -> Any:
    """A widget's value as the settings read it: a combo's is {"name": entry, setting: value}.

    A setting that the prompt does not name comes as None.
    """
    if not isinstance(value, Mapping):
        return value
    given = {k: v for k, v in value.items() if v is not None or f"{name}.{k}" in sent}
    return {"name" if key == name else key: setting for key, setting in given.items()}


class SpeCaAccelerate(io.ComfyNode):
    """MODEL in, accelerated MODEL out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """One widget per setting."""
        return io.Schema(
            node_id="SpeCaAccelerate",
            display_name="SpeCa",
            category="SpeCa",
            description="Faster sampling: learns the model from the first picture, then predicts "
            "most of its outputs from earlier steps, and runs it more often where a picture needs "
            "that. Place it between the model loader and the sampler.",
            search_aliases=[
                "speca",
                "speed",
                "faster",
                "cache",
                "turbo",
                "teacache",
                "easycache",
                "taylorseer",
            ],
            not_idempotent=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Model.Input("model", tooltip="The model to accelerate; it is left as it is"),
                *(widget(name, *setting) for name, setting in settings_of(SpecaConfig).items()),
            ],
            outputs=[io.Model.Output(tooltip="The model, accelerated")],
        )

    @classmethod
    def _node(cls) -> str:
        return str(getattr(cls.hidden, "unique_id", None) or "")

    @classmethod
    def fingerprint_inputs(cls, **widgets: Any) -> int:
        """Another number after a run that taught: ComfyUI then runs the same graph once more."""
        return TAUGHT[cls._node()]

    @classmethod
    def execute(cls, model: Any, **widgets: Any) -> io.NodeOutput:
        """Check the settings, then attach them to a clone of the model."""
        node = cls._node()
        prompt = getattr(cls.hidden, "prompt", None) or {}
        sent = prompt.get(node, {}).get("inputs", {})
        # ComfyUI leaves out a combo whose choice it does not know; the message names what was sent.
        known = {name: value for name, value in widgets.items() if value is not None}
        values = {name: sent[name] for name in settings_of(SpecaConfig) if name in sent} | known
        config = SpecaConfig.build({n: chosen(n, value, sent) for n, value in values.items()})
        if strange := sorted({*sent} - {"model", *names_of(config)}):
            log.warning("SpeCa: the prompt sets %s; the node has no such.", ", ".join(strange))
        workflow = found(getattr(cls.hidden, "extra_pnginfo", None), "workflow")
        carried = found(node_at(workflow, node), "properties", PROFILE)
        return io.NodeOutput(accelerate(model, config, node, carried=carried))
