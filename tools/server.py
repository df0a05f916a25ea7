"""A ComfyUI server with this pack and the demo's models, as a context manager. Standard library
only.

with server(python, comfyui, "127.0.0.1", 0, log) as (address, process):
    ...
"""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .environment import BASE, DEMO, RUNTIME, WINDOWS, Trouble, ending, environment

USUAL = 8188  # ComfyUI's own port: the same address each time, so that a page can be opened again
START_LIMIT = 300.0  # seconds until a server's first answer
STOP_LIMIT = 15.0  # seconds for a server to stop by itself


def usable_port(host: str, port: int | None) -> int:
    """`port`, or a free one in place of 0, after a try to listen there. None is the usual one, or
    a free one where that is in use."""
    if port is None:
        try:
            return usable_port(host, USUAL)
        except Trouble:
            port = 0
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as probe:
            # A port that was just given up counts as free; on Windows this would also allow a port
            # in use.
            if not WINDOWS:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place[0], port, *place[2:]))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        expected = "an address of this machine, and a port up to 65535 that no other program uses"
        raise Trouble(
            f"{host}, port {port}: {error}",
            expected,
            "give another --port or --listen, or leave them out",
        ) from error


def has_accelerator(python: Path) -> bool:
    """Whether PyTorch sees a device for ComfyUI, which otherwise wants to be told --cpu."""
    devices = "(torch.cuda, torch.backends.mps, getattr(torch, 'xpu', None))"
    found = f"any(device and device.is_available() for device in {devices})"
    question = f"import sys, torch; sys.exit(not {found})"
    return (
        subprocess.run(
            [python, "-c", question], env=environment(), stderr=subprocess.DEVNULL
        ).returncode
        == 0
    )


@contextlib.contextmanager
def server(
    python: Path, comfyui: Path, host: str, port: int | None, log: Path | None
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A ComfyUI server with the pack and the demo's models, for as long as the context lasts.

    Yields:
        Its address, once it answers there and knows the pack, and its process. What it prints goes
        to `log`; None is the terminal.
    """
    port = usable_port(host, port)
    device = [] if has_accelerator(python) else ["--cpu"]
    where: dict[str, Any] = {"cwd": BASE, "env": environment(), "stdin": subprocess.DEVNULL}
    # A process group of its own: Ctrl-C then reaches run.py alone, which stops the server in good
    # order.
    if sys.platform == "win32":
        where["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        where["start_new_session"] = True
    with contextlib.ExitStack() as stack:
        if log:
            where |= {
                "stdout": stack.enter_context(open(log, "w", encoding="utf-8")),
                "stderr": subprocess.STDOUT,
            }
        # ComfyUI empties it when it starts.
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="temp-", dir=BASE))
        folders: list[str | Path] = [
            "--base-directory",
            BASE,
            "--temp-directory",
            temporary,
            "--extra-model-paths-config",
            DEMO / "extra_model_paths.yaml",
        ]
        options = [
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--database-url",
            "sqlite:///:memory:",
            *device,
        ]
        command = [
            python,
            comfyui / "main.py",
            "--listen",
            host,
            "--port",
            str(port),
            *folders,
            *options,
        ]
        process: subprocess.Popen[bytes] = subprocess.Popen(command, **where)
        stack.callback(stop, process)
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        address = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
        await_pack(process, address, log)
        yield address, process


def await_pack(process: "subprocess.Popen[bytes]", address: str, log: Path | None) -> None:
    """Wait until the server at `address` answers and knows the pack's node."""
    # A proxy is for other machines.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_LIMIT
    while True:
        output = f":{ending(log)}" if log else " (its messages are above)"
        if process.poll() is not None:
            found = f"ComfyUI ended with code {process.returncode}{output}"
            raise Trouble(
                found,
                "a server that starts",
                f"mend what its messages name; if in doubt, delete {RUNTIME} and start again",
            )
        if time.monotonic() > deadline:
            found = f"no answer from {address} in {START_LIMIT:.0f} s{output}"
            raise Trouble(
                found, "a server that answers", "see what keeps the machine busy, then start again"
            )
        try:
            with direct.open(f"{address}/object_info/SpeCaAccelerate", timeout=30) as response:
                if json.load(response):
                    return
            found = "ComfyUI runs, but could not load this pack"
            raise Trouble(
                found,
                "the node SpeCaAccelerate",
                f"look for 'speca' in {log or 'the messages above'}",
            )
        except (urllib.error.URLError, ConnectionError):  # not listening yet
            time.sleep(0.2)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server: first as Ctrl-C would, so that it clears up."""
    try:
        if process.poll() is None:
            process.terminate() if WINDOWS else process.send_signal(signal.SIGINT)
        process.wait(timeout=STOP_LIMIT)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
