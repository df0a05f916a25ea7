"""What code costs, counted instead of timed: operations, bytes, and waits for the device. The same
numbers on every machine.

with Counting() as costs: ...         everything that runs inside
with Counting(OURS) as costs: ...     only what files below these folders ask for
metered(model, meter)                 a clone that runs every prediction of a sampler inside
                                      `meter()`
"""

import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PACK = Path(__file__).resolve().parents[1]
OURS = (str(PACK / "speca_core"), str(PACK / "nodes"))
READS = {
    *("__float__", "__int__", "__bool__", "__index__", "item", "tolist", "cpu", "numpy"),
    *("nonzero", "masked_select", "equal", "unique"),
}


@dataclass
class Costs:
    """What was counted.

    Attributes:
        operations: ATen operations that compute or move something; views are free.
        kernels: those that read or write a large tensor.
        temporaries: new large tensors.
        allocated: bytes of new memory, freed again or not.
        peak: the most of it that was held at the same time.
        waits: places (file:line) at which the host would wait for an accelerator, one entry for
            each time: a value is read, or a list or mask serves as index, which takes a copy to or
            from the device.
    """

    operations: int = 0
    kernels: int = 0
    temporaries: int = 0
    allocated: int = 0
    peak: int = 0
    waits: list[str] = field(default_factory=list)
    _held: int = 0

    def hold(self, storage: torch.UntypedStorage) -> None:
        """New memory; it counts as held until it is freed."""
        size = storage.nbytes()
        self.allocated += size
        self._held += size
        self.peak = max(self.peak, self._held)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._held -= size


class Counting(TorchDispatchMode):
    """Counts what runs inside of it.

    Args:
        folders: only what code below these folders asks for, directly or through PyTorch's own
            Python code.
        large: bytes from which a tensor is large.
    """

    def __init__(self, folders: tuple[str, ...] = ("",), large: int = 0) -> None:
        super().__init__()
        self.large = large
        self.costs = Costs()
        self.folders = folders
        self._functions = _Functions(self)

    def __enter__(self) -> Costs:  # type: ignore[override]
        super().__enter__()
        self._functions.__enter__()
        return self.costs

    def __exit__(self, *error: Any) -> None:
        self._functions.__exit__(*error)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if self.place():
            given = {storage.data_ptr() for storage in storages((args, kwargs))}
            self.costs.operations += not func.is_view
            self.costs.kernels += self._is_kernel(func, (args, kwargs, outputs))
            for storage in storages(outputs):
                if storage.data_ptr() not in given and storage.nbytes():
                    self.costs.hold(storage)
                    self.costs.temporaries += storage.nbytes() >= self.large
        return outputs

    def _is_kernel(self, func: Any, tree: Any) -> bool:
        """Whether an operation really reads or writes a large tensor."""
        sizes = [leaf.nbytes for leaf in tree_leaves(tree) if torch.is_tensor(leaf)]
        computes = not func.is_view and "empty" not in func.name()
        return computes and max(sizes, default=0) >= self.large

    def place(self) -> str:
        """file:line of the code that asked for this operation; empty if it is not in a folder."""
        frame = sys._getframe(2)
        while frame.f_back and passes_on(frame.f_code.co_filename):
            frame = frame.f_back
        name = frame.f_code.co_filename
        return f"{Path(name).name}:{frame.f_lineno}" if name.startswith(self.folders) else ""


def passes_on(file: str) -> bool:
    """Whether code in this file asks for operations in the name of its caller."""
    return file == __file__ or "/torch/" in file.replace("\\", "/")


def storages(tree: Any) -> list[torch.UntypedStorage]:
    """Of all tensors in it."""
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if torch.is_tensor(leaf)]


class _Functions(TorchFunctionMode):
    """Sees the waits: on a CPU some of them are no operation at all."""

    def __init__(self, counting: Counting) -> None:
        super().__init__()
        self.counting = counting

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        indexed = name in ("__getitem__", "__setitem__") and _copies(args[1])
        if (name in READS or indexed) and (place := self.counting.place()):
            self.counting.costs.waits.append(place)
        return func(*args, **(kwargs or {}))


def _copies(index: Any) -> bool:
    """Whether an index is a list, which is copied to the device, or a mask, which is read from
    it."""
    parts = index if isinstance(index, tuple) else (index,)
    masks = [torch.is_tensor(part) and part.dtype == torch.bool for part in parts]
    return any(masks) or any(isinstance(part, list) for part in parts)


def metered(model: Any, meter: Callable[[], AbstractContextManager[Any]]) -> Any:
    """A clone of a ModelPatcher whose every prediction, guidance and our own work included, runs
    inside a fresh `meter()`. It stands between sampler and guider: a wrapper around the guider
    would be guidance of another pack."""

    class Metered:
        def __init__(self, guider: Any) -> None:
            self.guider = guider

        def __getattr__(self, name: str) -> Any:
            return getattr(self.guider, name)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with meter():
                return self.guider(*args, **kwargs)

    def sample(executor: Any, guider: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(Metered(guider), *args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "meter", sample)
    return clone
