"""What the Comfy Registry hands out: the archive that .comfyignore leaves, in a ComfyUI that has
nothing else of ours."""

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request

import pathspec
import pytest
from conftest import COMFY, PACK, load_tools
from PIL import Image

RAW = "https://raw.githubusercontent.com/speca-comfyui/speca/main/"


def spec(*names):
    lines = [
        line for name in names for line in (PACK / name).read_text(encoding="utf-8").splitlines()
    ]
    return pathspec.PathSpec.from_lines("gitwildmatch", lines)


@pytest.fixture(scope="module")
def files():
    """What `comfy node pack` archives, where git tracks everything that .gitignore lets pass."""
    ignored = spec(".gitignore", ".comfyignore")
    paths = (path.relative_to(PACK).as_posix() for path in PACK.rglob("*") if path.is_file())
    return {
        path
        for path in paths
        if path.split("/")[0] not in (".git", ".runtime") and not ignored.match_file(path)
    }


@pytest.fixture(scope="module")
def address(files, tmp_path_factory):
    """A server in a base directory whose one pack is the unpacked archive."""
    base = tmp_path_factory.mktemp("base")
    for path in files:
        target = base / "custom_nodes" / "speca" / path
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
            yield f"http://127.0.0.1:{port}"
        finally:
            tools.stop(process)


def get(address, path):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        address + urllib.parse.quote(path), timeout=60
    ) as answer:
        return answer.read().decode()


def test_the_archive_holds_what_users_need_and_nothing_else(files):
    folders = {path.split("/")[0] for path in files if "/" in path}
    assert folders == {
        "docs",
        "example_workflows",
        "locales",
        "nodes",
        "speca_core",
        "subgraphs",
        "web",
    }
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


def test_the_archive_runs_in_a_bare_comfyui(address):
    nodes = json.loads(get(address, "/object_info"))
    ours = {name for name, node in nodes.items() if node["python_module"] == "custom_nodes.speca"}
    assert ours == {"SpeCaAccelerate", "SpeCaCalibrate", "SpeCaReport", "SpeCaCompare"}
    assert "/extensions/speca/speca.js" in json.loads(get(address, "/extensions"))
    assert "Flux.1 dev with SpeCa" in json.loads(get(address, "/workflow_templates"))["speca"]
    assert "balanced" in json.loads(get(address, "/speca/presets"))
    for node in ours:
        page = get(address, f"/extensions/speca/docs/{node}.md")
        assert page.startswith("# SpeCa")
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
            assert (PACK / "web/docs" / picture).exists()
