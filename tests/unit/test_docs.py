"""What the pages say is so: links lead somewhere, fragments run, commands exist, quoted settings
and messages are the pack's own."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from speca_core.bridge.families import FAMILIES

from speca_core import SpecaConfig
from speca_core.budgets import BUDGETS, Reason
from speca_core.budgets.mask import read_mask
from speca_core.forecasters import FORECASTERS
from speca_core.settings import make
from speca_core.verifiers import VERIFIERS

ROOT = Path(__file__).resolve().parents[2]
# The help pages link only to their own pictures; ComfyUI serves them.
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("demo/**/*.md"),
        *ROOT.glob("web/docs/**/*.md"),
    ]
)
# `threshold` is a budget here, with its settings in brackets.
TABLES = {**FORECASTERS, **VERIFIERS, **BUDGETS}

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CALL = re.compile(r"`(\w+)\(([^`]*)\)`")

every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix()
)


@cache
def text_of(page):
    return page.read_text(encoding="utf-8")


def prose(page):
    """The page without its fragments."""
    return FENCE.sub("", text_of(page))


def fragments(*languages):
    """(page:line, fragment) of every fragment in one of these languages."""
    found = []
    for page in PAGES:
        for match in FENCE.finditer(text_of(page)):
            if match[2] in languages:
                line = text_of(page).count("\n", 0, match.start()) + 2
                body = "".join(
                    row.removeprefix(match[1]) for row in match[3].splitlines(keepends=True)
                )
                found.append(pytest.param(body, id=f"{page.relative_to(ROOT).as_posix()}:{line}"))
    return found


@cache
def anchors(page):
    """The anchors that GitHub makes of a page's headings."""
    made = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        made.append(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return made


@every_page
def test_links_and_pictures_exist(page):
    for target in LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if page.is_relative_to(ROOT / "web/docs") and not file.exists():
            # ComfyUI resolves a translated page's pictures as it does the page's own.
            file = ROOT / "web/docs" / path
        assert file.exists(), f"{target}: there is no {path}"
        assert file.is_relative_to(ROOT), f"{target} leaves the repository"
        assert not anchor or anchor in anchors(file), (
            f"{target}: {path or page.name} has no such heading"
        )


@every_page
def test_fences_are_closed_and_of_a_known_kind(page):
    assert text_of(page).count("```") == 2 * len(FENCE.findall(text_of(page)))
    assert {match[2] for match in FENCE.finditer(text_of(page))} <= {"", "python", "json", "math"}


@every_page
def test_pages_with_formulas_close_them(page):
    bare = re.sub(r"`[^`]*`", "", prose(page))
    assert all(paragraph.count("$") % 2 == 0 for paragraph in re.split(r"\n\n|\n\|", bare))


@pytest.mark.parametrize("fragment", fragments("python"))
def test_python_runs(fragment, tmp_path):
    """In a process of its own; what imports from the pack around it is a new forecaster, and must
    keep the contract of forecasters."""
    script = tmp_path / "fragment.py"
    script.write_text(fragment, encoding="utf-8")
    run = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path({str(script)!r})"
    if "from .base import" in fragment:
        run = f"import sys; sys.path.insert(0, {str(ROOT)!r}); path = {str(script)!r}\n{ADOPT}"
    ended = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


ADOPT = """
import importlib.util
import torch
from speca_core.forecasters.base import Linear

spec = importlib.util.spec_from_file_location("speca_core.forecasters.fragment", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
(new,) = (v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Linear) and v is not Linear)
places = [0.0, 1.0, 3.0, 4.5][-new().depth :]
assert abs(sum(new().weights(places, 6.0)) - 1) < 1e-9
constant = torch.full((3, 2), 0.5)
assert torch.equal(new().forecast(places, [constant] * len(places), 6.0), constant)
assert new().to_dict()["name"] == new.name and new.help
"""


@pytest.mark.parametrize("fragment", fragments("json"))
def test_json_is_what_the_pack_reads(fragment):
    value = json.loads(fragment)
    if "computed" in value:
        assert read_mask(fragment)[0] == value["steps"]
    else:
        assert SpecaConfig.build(value).threshold == value["threshold"]


def test_the_settings_page_shows_the_defaults():
    shown = json.loads(
        next(
            match[3]
            for match in FENCE.finditer(text_of(ROOT / "docs/settings.md"))
            if match[2] == "json"
        )
    )
    assert shown == SpecaConfig().to_dict()


@every_page
def test_commands_exist(page):
    """`python3 run.py ...` with the commands and options that run.py and bench.py know; `python -m
    ...` with modules that are there."""
    run = text_of(ROOT / "run.py")
    commands = set(re.findall(r'^    "(\w+)": \(', run, re.MULTILINE)) | {"setup", "bench"}
    options = set(
        re.findall(
            r'"(--[a-z-]+)"',
            run + text_of(ROOT / "benchmarks/bench.py") + text_of(ROOT / "tests/comfy/conftest.py"),
        )
    )
    for line in re.findall(r"python3? (?:run\.py|-m) [^`\n#|]*", text_of(page)):
        words = line.split()
        if words[1] == "-m":
            assert (ROOT / (words[2].replace(".", "/") + ".py")).exists(), line
            continue
        assert words[2] in commands, line
        unknown = {word for word in words[3:] if word.startswith("--")} - options
        # Pytest's own.
        assert not {word for word in unknown if not word.startswith("--log-cli-level")}, line


@every_page
def test_quoted_settings_exist(page):
    for name, values in CALL.findall(prose(page)):
        if name in TABLES:
            knobs = ast.parse(f"f({values})", mode="eval").body.keywords
            make(
                TABLES, "setting", name, {knob.arg: ast.literal_eval(knob.value) for knob in knobs}
            )


def rows_of(page, heading):
    """The cells of the tables below a heading, without their heads."""
    section = re.split(rf"^#+ {heading}$", text_of(ROOT / page), maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^#", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [
        row
        for before, row in zip([None, *rows], rows, strict=False)
        if before and not set(row[0]) <= {"-"}
    ]


def test_every_forecaster_verifier_and_budget_has_its_place():
    headings = set(anchors(ROOT / "docs/forecasters.md"))
    assert set(FORECASTERS) <= headings
    assert set(BUDGETS) <= set(anchors(ROOT / "docs/budgets.md"))
    assert [row[0].strip("`") for row in rows_of("docs/verifiers.md", "The four verifiers")] == [
        *VERIFIERS
    ]
    widgets = {row[0]: row[1] for row in rows_of("docs/settings.md", "Settings")}
    for widget, table in (
        ("forecaster", FORECASTERS),
        ("verifier", VERIFIERS),
        ("budget", BUDGETS),
    ):
        assert re.findall(r"\w+", widgets[f"`{widget}`"]) == [*table]


def test_every_reason_is_explained():
    told = [row[0].strip("`") for row in rows_of("docs/algorithm.md", "Why a row is computed")]
    assert {*told, "draft"} == {reason.value for reason in Reason}


def test_the_table_of_amplification():
    places = [float(i) for i in range(12)]
    for name, *cells in rows_of("docs/forecasters.md", "Forecasters"):
        chosen, values = re.fullmatch(r"`(\w+)(?:\((.*)\))?`", name).groups()
        knobs = ast.parse(f"f({values or ''})", mode="eval").body.keywords
        forecaster = FORECASTERS[chosen](
            **{knob.arg: ast.literal_eval(knob.value) for knob in knobs}
        )
        known = places[: forecaster.depth]
        for distance, cell in zip((1, 2, 3), cells, strict=False):
            weights = forecaster.weights(known, known[-1] + distance)
            assert sum(map(abs, weights)) == pytest.approx(float(cell), abs=0.006), (name, distance)


def sentences(file):
    """Every string of a source file; what is filled in is an ellipsis."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_quoted_message_is_in_the_sources():
    files = [ROOT / "__init__.py", *ROOT.glob("nodes/*.py"), *ROOT.glob("speca_core/**/*.py")]
    known = [sentence for file in files for sentence in sentences(file)]
    rows = rows_of("docs/troubleshooting.md", "Error messages")
    assert len(rows) > 10
    for quoted, *_ in rows:
        message = quoted.split("`")[1]
        wanted = re.compile(
            ".*".join(re.escape(piece.strip()) for piece in message.split("...")), re.DOTALL
        )
        assert any(wanted.search(sentence) for sentence in known), message


def test_the_citation_is_of_this_version():
    version = re.search(r'^version = "(.+)"$', text_of(ROOT / "pyproject.toml"), re.MULTILINE)[1]
    assert re.search(r"^version: (.+)$", text_of(ROOT / "CITATION.cff"), re.MULTILINE)[1] == version
    assert "## Unreleased" in text_of(ROOT / "CHANGELOG.md") or f"## {version}" in text_of(
        ROOT / "CHANGELOG.md"
    )


def test_the_readme_counts_right():
    classes, families = re.search(
        r"All (\d+) diffusion transformer classes of .*, in (\d+) \[families\]",
        text_of(ROOT / "README.md"),
    ).groups()
    assert (int(classes), int(families)) == (
        sum(len(family.models) for family in FAMILIES),
        len(FAMILIES),
    )
