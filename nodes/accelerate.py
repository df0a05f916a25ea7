"""SpeCa Accelerate: the node that people drag into a graph."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..speca_core import SpecaConfig
from ..speca_core.bridge.attach import accelerate
from ..speca_core.budgets import BUDGETS
from ..speca_core.config import LEVELS, THRESHOLD
from ..speca_core.forecasters import FORECASTERS
from ..speca_core.knobs import Text, knobs_of
from ..speca_core.verifiers import VERIFIERS


def choice(name: str, table: Mapping[str, Any], tooltip: str) -> io.DynamicCombo.Input:
    """A combo of a table's entries; only the chosen entry's knobs show."""
    lines = "\n".join(f"{entry}: {settings.help}" for entry, settings in table.items())
    return io.DynamicCombo.Input(
        name,
        options=[
            io.DynamicCombo.Option(entry, [widget(*knob) for knob in knobs_of(settings).items()]) for entry, settings in table.items()
        ],
        tooltip=f"{tooltip}\n{lines}",
    )


def widget(name: str, knob: Any) -> io.Input:
    """The widget of one knob."""
    default, rule = knob
    if isinstance(rule, Text):
        return io.String.Input(name, default=default, tooltip=rule.help)
    tooltip = f"{rule.help} ({rule.low:g} to {rule.high:g})"
    if isinstance(default, int):
        return io.Int.Input(name, default=default, min=int(rule.low), max=int(rule.high), step=int(rule.step), tooltip=tooltip)
    return io.Float.Input(name, default=default, min=rule.low, max=rule.high, step=rule.step, tooltip=tooltip)


def chosen(name: str, values: Any) -> Any:
    """A combo's value as {"name": entry, knob: value, ...}; what is no such value is left for the settings to explain."""
    values = {} if values is None else values
    return {"name" if key == name else key: value for key, value in values.items()} if isinstance(values, Mapping) else values


class SpeCaAccelerate(io.ComfyNode):
    """MODEL in, accelerated MODEL out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets made from the tables of forecasters, verifiers and budgets."""
        defaults = SpecaConfig()
        return io.Schema(
            node_id="SpeCaAccelerate",
            display_name="SpeCa Accelerate",
            category="SpeCa",
            description="Speculative caching for diffusion transformers: forecasts many of the model's evaluations, checks each forecast "
            "and really computes those that are too far off. Place it between the model loader and the sampler.",
            search_aliases=["speca", "teacache", "easycache", "taylorseer", "speed up", "faster sampling", "cache"],
            not_idempotent=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="The model to accelerate: a diffusion transformer such as Flux, SD3 or Z-Image"),
                io.Float.Input(
                    "threshold",
                    default=defaults.threshold,
                    min=THRESHOLD.low,
                    max=THRESHOLD.high,
                    step=THRESHOLD.step,
                    display_mode=io.NumberDisplay.slider,
                    tooltip=f"{THRESHOLD.help}. Right is faster, left is closer to the plain model",
                ),
                choice("forecaster", FORECASTERS, "How what the model makes is forecast from what is already computed."),
                choice("verifier", VERIFIERS, "How each forecast is checked before it is used."),
                choice("budget", BUDGETS, "Which calls may be drafted, and how large an error passes."),
                io.Float.Input(
                    "start",
                    default=defaults.start,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Drafts are allowed from here on, as a fraction of the sampling steps (0 to 1)",
                ),
                io.Float.Input(
                    "end",
                    default=defaults.end,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Drafts are allowed up to here, as a fraction of the sampling steps (0 to 1)",
                ),
                io.Boolean.Input(
                    "hindsight",
                    default=defaults.hindsight,
                    advanced=True,
                    tooltip="When a call is computed, repair what the drafts before it were off by. Has an effect with euler, ddim, heun, "
                    "dpm_2, exp_heun_2_x0, dpmpp_2m, res_multistep, uni_pc, deis, ipndm, lms and gradient_estimation",
                ),
                io.Boolean.Input(
                    "guided",
                    default=defaults.guided,
                    advanced=True,
                    tooltip="At level features: errors are judged in what guidance (CFG) makes of the two prompts. Off: in each of "
                    "them by itself",
                ),
                io.Combo.Input(
                    "level",
                    options=list(LEVELS),
                    default=defaults.level,
                    advanced=True,
                    tooltip="What is forecast.\n" + "\n".join(f"{name}: {help}" for name, help in LEVELS.items()),
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, accelerated. The input model is left as it is")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        threshold: float,
        start: float,
        end: float,
        hindsight: bool = True,
        guided: bool = True,
        level: str = "features",
        forecaster: Mapping[str, Any] | None = None,
        verifier: Mapping[str, Any] | None = None,
        budget: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Check the settings, then attach them to a clone of the model.

        ComfyUI leaves a combo out when it does not know the chosen entry; the settings then say what the entries are.
        """
        config = SpecaConfig.from_choices(
            threshold,
            chosen("forecaster", forecaster),
            chosen("verifier", verifier),
            chosen("budget", budget),
            start,
            end,
            hindsight,
            guided,
            level,
        )
        return io.NodeOutput(accelerate(model, config, str(getattr(cls.hidden, "unique_id", None) or "")))
