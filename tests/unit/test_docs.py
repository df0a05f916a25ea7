"""What the pages say is so: links lead somewhere, fragments run, commands exist, quoted settings
and messages are the pack's own. Fragments that need ComfyUI run in tests/comfy/test_pages.py."""

import ast
import importlib.util
import json
import re
import runpy
from functools import cache
from pathlib import Path

import pytest
import torch

import run
from nodes.runtime.models.table import FAMILIES
from speca_core import SpecaConfig
from speca_core.budgets import BUDGETS, Reason
from speca_core.budgets.mask import read_mask
from speca_core.forecasters import FORECASTERS
from speca_core.forecasters.base import Linear
from speca_core.verifiers import VERIFIERS, Verifier

ROOT = Path(__file__).resolve().parents[2]
# The help pages link only to their own pictures; ComfyUI serves them.
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("demo/**/*.md"),
        *ROOT.glob("tests/*.md"),
        *ROOT.glob("web/docs/**/*.md"),
    ]
)
GITHUB = "https://github.com/speca-comfyui/speca/blob/main/"
# `threshold` is a budget here, with its settings in brackets.
TABLES = {**FORECASTERS, **VERIFIERS, **BUDGETS}

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CALL = re.compile(r"`(\w+)\(([^`]*)\)`")

NEEDS_COMFYUI = re.compile(r"from (speca_pack|testbed|sources)\b")

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
        ours = target.removeprefix(GITHUB)
        if ours.startswith("https://"):
            continue
        path, _, anchor = ours.partition("#")
        folder = page.parent if ours == target else ROOT
        file = (folder / path).resolve() if path else page
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


here = [of for of in fragments("python") if not NEEDS_COMFYUI.search(of.values[0])]


@pytest.mark.parametrize("fragment", here)
def test_python_runs(fragment, tmp_path):
    """What imports from the package around it is a new method, and must keep its contract."""
    script = tmp_path / "fragment.py"
    script.write_text(fragment, encoding="utf-8")
    package = next((name for name in CONTRACTS if f"class {name}" in fragment), None)
    if package is None:
        runpy.run_path(str(script))
        return
    folder, base, keeps_contract = CONTRACTS[package]
    spec = importlib.util.spec_from_file_location(f"speca_core.{folder}.fragment", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    new = getattr(module, package)()
    assert isinstance(new, base) and new.to_dict()["name"] == new.name and new.help
    keeps_contract(new)


def forecasts(new):
    places = [0.0, 1.0, 3.0, 4.5][-new.depth :]
    assert sum(new.weights(places, 6.0)) == pytest.approx(1)
    constant = torch.full((3, 2), 0.5)
    torch.testing.assert_close(new.forecast(places, [constant] * len(places), 6.0), constant)


def judges(new):
    rows = torch.rand(2, 5, 3)
    errors = new.worst(torch.stack([rows[0], 2 * rows[1]]), rows)
    assert errors[0] == 0 and errors[1] > 0.5


CONTRACTS = {  # the page's new classes
    "Fading": ("forecasters", Linear, forecasts),
    "WorstTokens": ("verifiers", Verifier, judges),
}


@pytest.mark.parametrize("fragment", fragments("json"))
def test_json_is_what_the_pack_reads(fragment):
    value = json.loads(fragment)
    if "computed" in value:
        assert read_mask(fragment)[0] == value["steps"]
    else:
        assert SpecaConfig.build(value).threshold == value["threshold"]


@every_page
def test_commands_exist(page):
    """`python3 run.py ...` as run.py parses it; bench.py has options of its own."""
    bench = text_of(ROOT / "benchmarks/bench.py")
    for line in re.findall(r"python3? run\.py [^`\n#|]*", text_of(page)):
        options = run.parse(line.split()[2:])
        unknown = {word for word in options.rest if word.startswith("--")}
        if options.command == "bench":
            unknown = {word for word in unknown if f'"{word}"' not in bench}
        else:  # pytest's
            unknown -= {"--log-cli-level", "--log-cli-level=DEBUG", "--long"}
        assert not unknown, line


@every_page
def test_quoted_settings_exist(page):
    for name, values in CALL.findall(prose(page)):
        if name in TABLES:
            given = ast.parse(f"f({values})", mode="eval").body.keywords
            TABLES[name].build({key.arg: ast.literal_eval(key.value) for key in given})


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
    headings = set(anchors(ROOT / "docs/methods.md"))
    assert {*FORECASTERS, *BUDGETS} <= headings
    told = [row[0].strip("`") for row in rows_of("docs/methods.md", "The verifiers")]
    assert told == [*VERIFIERS]


def test_every_reason_is_explained():
    told = [
        row[0].strip("`") for row in rows_of("docs/troubleshooting.md", "Why a row is computed")
    ]
    assert {*told, "draft"} == {reason.value for reason in Reason}


def test_the_table_of_amplification():
    places = [float(i) for i in range(12)]
    for name, *cells in rows_of("docs/methods.md", "Forecasters"):
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
    files = [ROOT / "__init__.py", *ROOT.glob("nodes/**/*.py"), *ROOT.glob("speca_core/**/*.py")]
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
    counted = r"(\d+) diffusion transformer classes of ComfyUI \S+ in (\d+) \[families\]"
    told = re.search(counted, text_of(ROOT / "README.md").replace("\n", " "))
    classes = sum(len(family.models) for family in FAMILIES)
    assert (int(told[1]), int(told[2])) == (classes, len(FAMILIES))


def test_the_docs_are_short():
    """About ten pages that somebody reads. Tables made from the code grow with it."""
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/adr/*.md")]
    made = re.compile(r"<!-- (\w+) -->.*?<!-- /\1 -->", re.DOTALL)
    assert sum(len(made.sub("", text_of(page)).split()) for page in pages) <= 20_000
    assert len([*ROOT.glob("docs/*.md")]) <= 11
