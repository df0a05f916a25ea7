"""The nodes as ComfyUI sees them: schema, execution, errors."""

import json

import pytest
import torch
from models import sample_flux, trained_flux
from speca_pack.nodes.runtime.page.report_store import MOST_ROWS, find, remember
from speca_pack.speca_core import ConfigError, SpecaConfig
from speca_pack.speca_core.budgets import BUDGETS
from speca_pack.speca_core.forecasters import FORECASTERS
from speca_pack.speca_core.report import CallRecord, RowRecord, RunReport
from speca_pack.speca_core.verifiers import VERIFIERS


def widget_values(**changed):
    """What ComfyUI passes for an untouched node."""
    config = SpecaConfig().to_dict() | changed
    for kind in ("forecaster", "verifier", "budget"):
        config[kind] = {
            kind if key == "name" else key: value for key, value in config[kind].items()
        }
    return config


@pytest.fixture(scope="module")
def flux():
    return trained_flux()


def inputs_of(node):
    info = node.GET_NODE_INFO_V1()["input"]
    return info["required"] | info.get("optional", {})


def test_ids_and_widget_names_are_public_api(nodes):
    assert set(nodes) == {"SpeCaAccelerate", "SpeCaCalibrate", "SpeCaCompare", "SpeCaReport"}
    assert list(inputs_of(nodes["SpeCaAccelerate"])) == [
        "model",
        "threshold",
        "forecaster",
        "verifier",
        "budget",
        "start",
        "end",
        "hindsight",
        "guided",
        "level",
    ]
    assert list(inputs_of(nodes["SpeCaReport"])) == ["latent"]
    assert list(inputs_of(nodes["SpeCaCalibrate"])) == [
        "model",
        "positive",
        "negative",
        "latent_image",
        "seed",
        "pictures",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
    ]
    assert list(inputs_of(nodes["SpeCaCompare"])) == ["plain", "accelerated", "vae"]


def test_only_the_chosen_settings_show(nodes):
    inputs = inputs_of(nodes["SpeCaAccelerate"])
    for name, table in (("forecaster", FORECASTERS), ("verifier", VERIFIERS), ("budget", BUDGETS)):
        options = {option["key"]: option["inputs"] for option in inputs[name][1]["options"]}
        assert list(options) == list(table)
        for key, settings in table.items():
            knobs = [k for k in settings().to_dict() if k != "name"]
            assert list(options[key].get("optional", {})) == knobs
    assert inputs["threshold"][1]["display"] == "slider"


def test_the_first_entry_of_each_table_is_the_default():
    # ComfyUI preselects a combo's first entry: an untouched node must mean SpecaConfig().
    config = SpecaConfig()
    assert [config.forecaster.name, config.verifier.name, config.budget.name] == [
        next(iter(t)) for t in (FORECASTERS, VERIFIERS, BUDGETS)
    ]
    assert config.forecaster == type(config.forecaster)() and config.budget == type(config.budget)()


def test_an_untouched_node_and_its_report(nodes, flux):
    fast = nodes["SpeCaAccelerate"].execute(model=flux, **widget_values()).result[0]
    sample_flux(fast, batch=1, seed=6)  # teaches
    samples = sample_flux(fast, batch=1)
    output = nodes["SpeCaReport"].execute({"samples": samples})
    latent, picture, text = output.result
    report = json.loads(text)
    assert latent["samples"] is samples
    assert (
        picture.shape[0] == 1
        and picture.shape[2:] == (1000, 3)
        and picture.min() >= 0
        and picture.max() <= 1
    )
    assert (
        report["totals"]["calls"] == 28
        and report["totals"]["accepted"] > 0
        and report["settings"] == SpecaConfig().to_dict()
    )
    assert (
        output.ui["speca_report"] == (text,)
        and "evaluations skipped" in output.ui["text"][0]
        and output.ui["images"]
    )


def test_a_run_is_found_behind_hundreds_of_others():
    """Tiles and detailers sample with the same model before the report is asked for."""
    first = torch.full((1, 16, 4, 4), -1.0)
    report = RunReport("Flux", SpecaConfig().to_dict(), 28)
    remember(first, report)
    for tile in range(400):
        remember(torch.full((1, 16, 4, 4), float(tile)), RunReport("Flux", {}, 2))
    assert find(first) is report


def test_reports_take_a_bounded_part_of_memory():
    """Of more rows than that, the newest are kept; the newest run in any case."""
    row = RowRecord(0, 0, "computed", "warmup")
    half = [CallRecord(0, 1.0, 0.0, rows=[row] * (MOST_ROWS // 2))]
    latents = [torch.full((1, 16, 4, 4), 1000.0 + number) for number in range(4)]
    for latent, calls in zip(latents, [half, half, half, half * 3], strict=True):
        remember(latent, RunReport("Flux", {}, 1, calls))
        kept = [find(each) is not None for each in latents]
    assert kept == [False, False, False, True]


def test_a_latent_of_another_maker_passes_with_a_message(nodes):
    latent = {"samples": torch.rand(1, 16, 4, 4)}
    output = nodes["SpeCaReport"].execute(latent)
    assert output.result[0] is latent and output.result[2] == "{}"
    assert "No SpeCa run made this latent" in output.ui["text"][0]


@pytest.mark.parametrize(
    ("widget", "value"),
    [
        ("threshold", -1.0),
        ("threshold", float("nan")),
        ("start", 2.0),
        ("forecaster", {"forecaster": "nonsense"}),
        ("forecaster", {"forecaster": "newton", "order": 9}),
        ("verifier", {}),
        ("budget", {"budget": "threshold", "warmup": 0}),
        ("budget", {"budget": "threshold", "speed": 3}),
    ],
)
def test_bad_widget_values_are_explained_before_sampling(nodes, flux, widget, value):
    with pytest.raises(ConfigError, match=r"expected|has no setting"):
        nodes["SpeCaAccelerate"].execute(model=flux, **(widget_values() | {widget: value}))
