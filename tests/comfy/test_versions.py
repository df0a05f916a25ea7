"""ComfyUI's versions: refused below the range, with a message, without harm to anything else."""

import contextlib
import subprocess
import sys

import pytest
from conftest import COMFY, PACK

PRETEND = (
    "import runpy, sys, comfyui_version; comfyui_version.__version__ = sys.argv.pop(1); "
    "runpy.run_path('main.py', run_name='__main__')"
)


@pytest.fixture
def start(tmp_path):
    """Start and stop a real ComfyUI that takes itself for another version, beside another pack;
    returns its output."""
    packs = tmp_path / "custom_nodes"
    packs.mkdir()
    (packs / "speca").symlink_to(PACK, target_is_directory=True)
    (packs / "other.py").write_text(
        "NODE_CLASS_MAPPINGS = {'Other': type('Other', (), {})}\nprint('the other pack is here')\n"
    )

    def run(version):
        options = [
            "--cpu",
            "--quick-test-for-ci",
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
            "--base-directory",
            tmp_path,
        ]
        command = [sys.executable, "-c", PRETEND, version, *options]
        ended = subprocess.run(
            command, cwd=COMFY, capture_output=True, text=True, timeout=300, encoding="utf-8"
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    return run


def test_an_older_comfyui_is_told_what_it_lacks_and_works_on(start, pack):
    said = start("0.16.2")
    assert (
        f"SpeCa: this is ComfyUI 0.16.2; expected {pack.OLDEST_COMFYUI} or later. "
        "Update ComfyUI, or remove this pack." in said
    )
    assert "IMPORT FAILED" in said and "the other pack is here" in said


@pytest.mark.parametrize(
    ("version", "refused"),
    [
        ("0.3.75", True),
        ("0.16.2", True),
        ("0.16.3", False),
        ("0.100.0", False),
        ("1.2.3-nightly", False),
    ],
)
def test_versions_are_compared_as_numbers(pack, monkeypatch, version, refused):
    monkeypatch.setattr("comfyui_version.__version__", version)
    with (
        pytest.raises(ImportError, match=f"this is ComfyUI {version}")
        if refused
        else contextlib.nullcontext()
    ):
        pack.refuse_older_comfyui()
