"""What the Comfy Registry hands out: the archive that .comfyignore leaves, in a ComfyUI that has
nothing else of ours."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import pathspec
import pytest
from conftest import COMFY, PACK, load_tools
from PIL import Image
from test_server import ask, finish, graph

RAW = "https://raw.githubusercontent.com/speca-comfyui/speca/main/"
WHOLE = {"example_workflows", "locales", "nodes", "speca_core", "subgraphs", "web"}


def passed(paths, ignoring):
    """Those of `paths` that a file in .gitignore's syntax lets pass."""
    lines = (PACK / ignoring).read_text(encoding="utf-8").splitlines()
    ignored = pathspec.PathSpec.from_lines("gitwildmatch", lines)
    return {path for path in paths if not ignored.match_file(path)}


@pytest.fixture(scope="module")
def tracked():
    """What git tracks: everything that .gitignore lets pass."""
    paths = (path.relative_to(PACK).as_posix() for path in PACK.rglob("*") if path.is_file())
    # .runtime/ is in .gitignore, too, and has too many files to ask it of each.
    ours = (path for path in paths if path.split("/")[0] not in (".git", ".runtime"))
    return passed(ours, ".gitignore")


@pytest.fixture(scope="module")
def files(tracked):
    """What `comfy node pack` archives."""
    return passed(tracked, ".comfyignore")


@pytest.fixture(scope="module")
def bare(files, tmp_path_factory):
    """A server in a base directory whose one pack is the unpacked archive, and which finds the
    demo's models: its address, the pack's folder, and its log."""
    base = tmp_path_factory.mktemp("base")
    home = base / "custom_nodes" / "speca"
    for path in files:
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACK / path, target)
    tools = load_tools("server")
    port = tools.usable_port("127.0.0.1", 0)
    options = [
        "--cpu",
        "--disable-auto-launch",
        "--disable-api-nodes",
        "--database-url",
        "sqlite:///:memory:",
        "--extra-model-paths-config",
        PACK / "demo/extra_model_paths.yaml",
    ]
    command = [
        sys.executable,
        COMFY / "main.py",
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
        "--base-directory",
        base,
        *options,
    ]
    log = base / "log.txt"
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=base, env=tools.environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            tools.await_pack(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}", home, log
        finally:
            tools.stop(process)


def test_the_archive_holds_what_users_need_and_nothing_else(tracked, files):
    folders = {path.split("/")[0] for path in files if "/" in path}
    assert folders == {"docs", *WHOLE}
    assert {path for path in tracked if path.split("/")[0] in WHOLE} <= files
    alone = {path for path in files if "/" not in path}
    assert alone == {
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "__init__.py",
        "pyproject.toml",
        "requirements.txt",
    }
    assert sum((PACK / path).stat().st_size for path in files) < 2_000_000


def test_the_archives_workflows_need_nothing_that_it_leaves_out(files):
    workflows = [
        path for path in files if path.startswith("example_workflows/") and path.endswith(".json")
    ]
    assert len(workflows) >= 7
    for path in workflows:
        assert "SpeCaDemo" not in (PACK / path).read_text(encoding="utf-8"), path
        assert path.removesuffix(".json") + ".jpg" in files


def test_the_registrys_pictures_are_in_the_repository_and_of_the_size_that_it_wants():
    text = (PACK / "pyproject.toml").read_text(encoding="utf-8")
    icon, banner = (
        PACK / re.search(rf'^{key} = "{RAW}(.+)"$', text, re.MULTILINE)[1]
        for key in ("Icon", "Banner")
    )
    assert icon.stat().st_size <= 40_000
    with Image.open(icon) as small, Image.open(banner) as wide:
        assert small.size == (400, 400)
        assert wide.width * 9 == wide.height * 21


def test_the_archive_runs_in_a_bare_comfyui(bare):
    address, _, _ = bare
    nodes = ask(address, "/object_info")
    ours = {name for name, node in nodes.items() if node["python_module"] == "custom_nodes.speca"}
    assert ours == {"SpeCaAccelerate", "SpeCaCalibrate", "SpeCaReport", "SpeCaCompare"}
    assert "/extensions/speca/speca.js" in ask(address, "/extensions")
    assert "Flux.1 dev with SpeCa" in ask(address, "/workflow_templates")["speca"]
    assert "SpeCa compare" in {made["name"] for made in ask(address, "/global_subgraphs").values()}
    assert ours <= {*ask(address, "/i18n")["zh"]["nodeDefs"]}
    assert "balanced" in ask(address, "/speca/presets")
    for node in ours:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{address}/extensions/speca/docs/{node}.md", timeout=60
        ) as answer:
            page = answer.read().decode()
        assert page.startswith("# SpeCa")
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
            assert (PACK / "web/docs" / picture).exists()


def test_the_archive_makes_the_demos_picture(bare):
    address, home, log = bare
    finish(address, graph(threshold=0.29))  # teaches
    shown = finish(address, graph(threshold=0.3))["outputs"]
    totals = json.loads(shown["9"]["speca_report"][0])["totals"]
    assert shown["11"]["images"] and totals["accepted"] > 0
    said = log.read_text(encoding="utf-8")
    # A traceback would name a file of the pack.
    assert f"{home}{os.sep}" not in said and "IMPORT FAILED" not in said
    told = [line for line in said.splitlines() if "SpeCa" in line]
    assert len(told) == 2 and all("evaluations skipped" in line for line in told), told
