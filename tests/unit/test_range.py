"""The supported range of ComfyUI is written in three places, because three programs read it."""

import ast
import re
from pathlib import Path

import run

ROOT = Path(run.__file__).parent


def test_the_range_begins_with_the_oldest_version_that_the_tests_run_on():
    oldest = next(iter(run.PINNED))
    assert oldest == min(
        run.PINNED, key=lambda version: [int(number) for number in version.split(".")]
    )
    assert (
        re.search(
            r'requires-comfyui = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        )[1]
        == f">={oldest}"
    )
    assigned = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body
    (named,) = [
        a.value.value
        for a in assigned
        if isinstance(a, ast.Assign) and a.targets[0].id == "OLDEST_COMFYUI"
    ]
    assert named == oldest
    assert f"ComfyUI {oldest}" in (ROOT / "README.md").read_text(encoding="utf-8")
