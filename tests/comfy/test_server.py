"""The whole line: a real ComfyUI server, its HTTP interface, the demo's workflow."""

import copy
import json
import time
import urllib.error
import urllib.request

import pytest
from conftest import PACK

WORKFLOW = json.loads((PACK / "demo/workflow_api.json").read_text(encoding="utf-8"))
# Settings that need no profile: nothing that an earlier run taught changes what they do.
CHECKED = {"forecaster": "newton", "verifier": "embedded", "budget": "accumulated"}


def ask(address, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        request, timeout=60
    ) as response:
        return json.load(response)


def graph(**changed):
    """The demo's graph, smaller: one image, twelve steps; `changed` sets inputs of the accelerate
    node."""
    made = copy.deepcopy(WORKFLOW)
    made["6"]["inputs"]["batch_size"] = 1
    made["8"]["inputs"]["steps"] = 12
    made["7"]["inputs"] |= changed
    return made


def finish(address, prompt):
    """Queue a graph and wait for its end; returns its entry in the history."""
    identity = ask(address, "/prompt", {"prompt": prompt})["prompt_id"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if entry := ask(address, f"/history/{identity}").get(identity):
            return entry
        time.sleep(0.1)
    pytest.fail("the server did not finish in two minutes")


def cached(entry):
    """The nodes that ComfyUI did not execute again."""
    messages = entry["status"]["messages"]
    return next(data["nodes"] for kind, data in messages if kind == "execution_cached")


def test_the_demos_workflow_runs_and_reports(comfy):
    finish(comfy, graph(threshold=0.29))  # the first run of a new base directory teaches
    # With so few steps the default drafts next to nothing.
    entry = finish(comfy, graph(threshold=0.3))
    assert entry["status"]["status_str"] == "success"
    shown = entry["outputs"]["9"]
    report = json.loads(shown["speca_report"][0])
    assert (
        report["totals"]["calls"] == 12 and report["totals"]["accepted"] > 0 and report["finished"]
    )
    assert shown["images"] and "evaluations skipped" in shown["text"][0]
    assert entry["outputs"]["11"]["images"] and entry["outputs"]["12"]["images"]


def test_a_prompt_of_0_1_0_runs_as_it_did(comfy):
    """Its demo: another model, and the settings of its node."""
    prompt = graph()
    prompt["1"]["inputs"]["unet_name"] = "flux_tiny.safetensors"
    prompt["2"]["inputs"] = {}
    prompt["3"]["inputs"]["vae_name"] = "tiny_vae.safetensors"
    prompt["4"]["inputs"]["text"] = "a big cyan circle on brown rings"
    prompt["6"]["inputs"] |= {"width": 128, "height": 128}
    prompt["8"]["inputs"] |= {"steps": 28, "cfg": 3.0}
    prompt["7"]["inputs"] = {
        "model": ["1", 0],
        "threshold": 0.1,
        "forecaster": "newton",
        "forecaster.order": 2,
        "forecaster.damping": 0.5,
        "verifier": "embedded",
        "budget": "accumulated",
        "budget.warmup": 3,
        "budget.max_streak": 6,
        "budget.protect_last": 1,
        "budget.give_up": 4,
        "start": 0.0,
        "end": 1.0,
        "hindsight": True,
        "guided": True,
        "level": "auto",
    }
    shown = finish(comfy, prompt)["outputs"]["9"]
    calls = json.loads(shown["speca_report"][0])["calls"]
    verdicts = "".join(row["verdict"][0] for call in calls for row in call["rows"])
    # Accepted, computed, rejected, as release 0.1.0 decided. No error is near its tolerance.
    assert verdicts == "cccararararacacacacacacararc"


def test_the_report_is_found_when_the_sampler_comes_from_the_cache(comfy):
    prompt = graph(threshold=0.19, **CHECKED)
    bare = {name: node for name, node in prompt.items() if name not in ("9", "12")}
    bare["10"]["inputs"]["samples"] = ["8", 0]
    finish(comfy, bare)
    entry = finish(comfy, prompt)
    assert "8" in cached(entry) and "9" not in cached(entry)
    assert json.loads(entry["outputs"]["9"]["speca_report"][0])["settings"]["threshold"] == 0.19


def test_the_same_graph_runs_once_more_after_it_has_taught(comfy):
    """Though nothing in it changed, and the seed is fixed. Then its picture is made."""
    prompt = graph()
    guidance = {"conditioning": ["4", 0], "guidance": round(time.time() % 99, 3)}  # a new model
    prompt["13"] = {"class_type": "FluxGuidance", "inputs": guidance}
    prompt["8"]["inputs"] |= {"positive": ["13", 0], "steps": 28}
    taught, fast, made = (finish(comfy, prompt) for _ in range(3))
    states = [
        json.loads(entry["outputs"]["9"]["speca_report"][0])["profile"]["state"]
        for entry in (taught, fast)
    ]
    assert states == ["learning", "served"]
    assert "8" not in cached(fast) and "8" in cached(made)


def test_a_bypassed_node_shows_no_older_run(comfy):
    """With threshold 0 the latent is the same; the report says whose it is."""
    prompt = graph(threshold=0.0)
    prompt["8"]["inputs"]["seed"] = 99
    shown = finish(comfy, prompt)["outputs"]["9"]
    assert "evaluations skipped" in shown["text"][0]
    prompt["8"]["inputs"]["model"] = prompt["7"]["inputs"]["model"]
    shown = finish(comfy, prompt)["outputs"]["9"]
    assert "The plain model made this latent" in shown["text"][0]
    assert shown["speca_report"] == ["{}"]


@pytest.mark.parametrize(
    ("changed", "word"), [({"threshold": 7.0}, "threshold"), ({"verifier.bar": "many"}, "bar")]
)
def test_bad_widget_values_are_refused_with_their_name(comfy, changed, word):
    with pytest.raises(urllib.error.HTTPError) as refused:
        finish(comfy, graph(**changed))
    assert refused.value.code == 400 and word in refused.value.read().decode()


def test_an_unknown_entry_of_a_combo_is_explained(comfy):
    """ComfyUI lets it pass; we say what there is."""
    entry = finish(comfy, graph(forecaster="nonsense"))
    assert entry["status"]["status_str"] == "error"
    assert "forecaster is 'nonsense'; expected one of learned, newton, fitted" in json.dumps(
        entry["status"]["messages"]
    )


def test_an_error_leaves_the_next_run_as_it_was(comfy):
    """start after end gets past ComfyUI's own checks: our message, and the next run is unharmed."""
    first = finish(comfy, graph(threshold=0.21, **CHECKED))
    before = json.loads(first["outputs"]["9"]["speca_report"][0])
    entry = finish(comfy, graph(start=0.9, end=0.1))
    assert entry["status"]["status_str"] == "error"
    assert "expected start < end" in json.dumps(entry["status"]["messages"])
    again = graph(threshold=0.21, **CHECKED)
    again["4"]["inputs"]["text"] += " "  # the same words, but the sampler has to run again
    after = json.loads(finish(comfy, again)["outputs"]["9"]["speca_report"][0])
    assert [c["rows"] for c in after["calls"]] == [c["rows"] for c in before["calls"]]


def test_the_example_workflow_is_the_demos(comfy):
    """The template and demo/workflow_api.json hold the same nodes with the same values."""
    example = json.loads(
        (PACK / "demo/custom_nodes/speca_demo/example_workflows/Start here.json").read_text(
            encoding="utf-8"
        )
    )
    nodes = {str(node["id"]): node for node in example["nodes"] if node["type"] != "MarkdownNote"}
    # The page shows the timeline without a node to save it.
    wanted = {name: node for name, node in WORKFLOW.items() if name != "12"}
    assert {name: node["type"] for name, node in nodes.items()} == {
        name: node["class_type"] for name, node in wanted.items()
    }
    values = [v for k, v in WORKFLOW["7"]["inputs"].items() if k != "model"]
    assert nodes["7"]["widgets_values"] == values


def test_the_page_gets_our_script_and_the_template(comfy):
    assert "/extensions/speca/speca.js" in ask(comfy, "/extensions")
    # Alone: ComfyUI lists templates in no order.
    assert ask(comfy, "/workflow_templates")["speca_demo"] == ["Start here"]
