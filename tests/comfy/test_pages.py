"""Tables in the docs that are made from the code are those of the code."""

import re
import subprocess
import sys

import pytest
from conftest import PACK
from speca_pack.tools.pages import PAGES, written


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_code(page):
    assert (PACK / page).read_text(encoding="utf-8") == written(page), "run.py pages"


def fragments():
    """Python in the docs that needs ComfyUI, or the benchmarks."""
    fence = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for page in sorted(PACK.glob("docs/*.md")):
        for number, text in enumerate(fence.findall(page.read_text(encoding="utf-8"))):
            if re.search(r"from (speca_pack|testbed|sources)\b", text):
                yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("fragment", fragments())
def test_python_runs(fragment, tmp_path):
    """In a process of its own, as a benchmark is one."""
    script = tmp_path / "fragment.py"
    script.write_text(fragment, encoding="utf-8")
    start = f"import sys; sys.path.insert(0, {str(PACK / 'benchmarks')!r}); import testbed"
    start += f"; import runpy; runpy.run_path({str(script)!r})"
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
