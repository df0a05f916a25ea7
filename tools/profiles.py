"""Look at what SpeCa has learned of your models, delete, export or import it.

    python3 run.py profiles                      list them
    python3 run.py profiles delete NAME
    python3 run.py profiles export NAME FILE
    python3 run.py profiles import FILE

`--comfyui PATH` is the ComfyUI whose profiles are meant; without it, the one of `run.py serve`.
This module runs in ComfyUI's environment, as a part of the pack.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..nodes.runtime.profiles import ProfileStore
from ..speca_core.errors import ConfigError


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="run.py profiles")
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("delete").add_argument("name")
    export = commands.add_parser("export")
    export.add_argument("name")
    export.add_argument("file", type=Path)
    commands.add_parser("import").add_argument("file", type=Path)
    return parser.parse_args(arguments)


def line(name: str, file: dict[str, Any]) -> str:
    """One model for people."""
    guidances = ", ".join(
        f"CFG {p['guidance']:g} from {p['runs']} run{'s' if p['runs'] > 1 else ''}"
        + (", calibrated" if p["trials"] else "")
        for p in file["profiles"]
    )
    day = time.strftime("%Y-%m-%d", time.localtime(file["changed"]))
    return f"{name}  {day}  {file['model']}: {guidances}"


def main(arguments: Sequence[str]) -> int:
    """Run one command. Returns its exit code."""
    options = parse(arguments)
    store = ProfileStore(options.folder)
    if options.command == "import":
        print(f"imported {store.take(json.loads(options.file.read_text('utf-8')))}")
        return 0
    known = store.all()
    if options.command is None:
        print(*(line(*item) for item in known.items()) if known else ("no profiles",), sep="\n")
        return 0
    if options.name not in known:
        print(f"found no profile {options.name}; expected one of: {', '.join(known)}")
        return 1
    if options.command == "delete":
        store.delete(options.name)
        print("deleted")
    else:
        options.file.write_text(json.dumps(store.exported(options.name)), "utf-8")
        print(f"exported {options.name}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ConfigError, OSError, ValueError) as error:
        sys.exit(str(error))
