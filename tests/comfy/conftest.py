"""These tests run in the real ComfyUI (COMFYUI_PATH names it), on CPU; the pack is loaded as
ComfyUI loads it."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

# Tiny tensors: a second thread costs more than it gives, and several processes share the cores.
# Before torch starts; servers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PACK = Path(__file__).resolve().parents[2]
COMFY = Path(os.environ["COMFYUI_PATH"])

# ComfyUI's own modules (nodes, server, utils) must win over ours of the same name: the repo's root
# is never on sys.path here.
sys.path.insert(0, str(COMFY))

import comfy.options  # noqa: E402
import utils.extra_config  # noqa: E402, F401 - first, as main.py does: the nodes.py of ComfyUI 0.16 hides `utils` behind comfy/utils.py

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = True

import folder_paths  # noqa: E402
import torch  # noqa: E402
from hypothesis import configuration  # noqa: E402

configuration.set_hypothesis_home_dir(PACK / ".runtime/hypothesis")
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def load_pack():
    """The pack as `nodes.load_custom_node` loads it, under the name `speca_pack`."""
    spec = importlib.util.spec_from_file_location(
        "speca_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["speca_pack"] = module
    spec.loader.exec_module(module)
    return module


PACK_MODULE = load_pack()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_tools(name):
    """A module of tools/, without the repo's root on sys.path."""
    spec = importlib.util.spec_from_file_location(
        "speca_tools", PACK / "tools/__init__.py", submodule_search_locations=[str(PACK / "tools")]
    )
    sys.modules["speca_tools"] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"speca_tools.{name}")


@pytest.fixture(scope="session", autouse=True)
def user_directory(tmp_path_factory):
    """What runs learn goes into a folder of these tests."""
    folder_paths.set_user_directory(str(tmp_path_factory.mktemp("user")))


@pytest.fixture(autouse=True)
def nothing_learned(user_directory, tmp_path):
    """What other tests have taught is not known in this one."""
    before = folder_paths.get_user_directory()
    folder_paths.set_user_directory(str(tmp_path / "user"))
    yield
    folder_paths.set_user_directory(before)


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    """The address of a running server, made as `run.py serve` makes it."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    server = load_tools("server").server
    with server(Path(sys.executable), COMFY, "127.0.0.1", 0, log) as (address, _):
        yield address


@pytest.fixture(scope="session")
def pack():
    return PACK_MODULE


@pytest.fixture(scope="session")
def nodes(pack):
    """The pack's nodes by id, through its own entry point."""
    import asyncio

    async def collect():
        extension = await pack.comfy_entrypoint()
        return {node.GET_SCHEMA().node_id: node for node in await extension.get_node_list()}

    return asyncio.run(collect())


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that take hours")
    parser.addoption("--faults", type=int, default=250, help="injected in each case of a long test")


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "family(name): a test of one tiny model; no test where this ComfyUI does not have it yet",
    )
    config.addinivalue_line("markers", "long: takes long; run with --long")
    config.addinivalue_line(
        "markers", "goes_with(what, how): shows what the guide says of it; run.py pages writes it"
    )


def pytest_collection_modifyitems(config, items):
    from tiny import NEWER_NOT_YET, NOT_YET

    def wanted(item):
        family = item.get_closest_marker("family")
        return (config.getoption("--long") or not item.get_closest_marker("long")) and not (
            family and family.args[0] in NOT_YET | NEWER_NOT_YET
        )

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]
