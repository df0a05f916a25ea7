"""A device that is not there: tensors compute on the host and say that they are elsewhere.

    device = Pretended()
    latent = sample(device.sampling(model))       everything between sampler and model is "there"
    device.waits                                  of each prediction: where our code made the host
                                                  wait for the device, and why

As on a real device, tensors of both places do not mix, and a value or a tensor that goes from one
place to the other makes the host wait for all that was asked before, unless a copy to the device is
told not to. Nor has every device float64. Only what the pack itself asks for is held to that.
"""

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from conftest import PACK, load
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_leaves, tree_map

counting = load(PACK / "benchmarks/counting.py")
THERE, HOST = torch.device("meta"), torch.device("cpu")  # one that PyTorch knows everywhere
MEMORY = 1 << 34
aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2}
INDEXED = {aten.index, aten.index_put_, aten._index_put_impl_}  # by a list or a mask: copied, read
COPIES = {aten._to_copy, aten.copy_}


def free_memory(device=None, torch_free_too=False):
    """Of a device that PyTorch cannot ask."""
    return (MEMORY, MEMORY) if torch_free_too else MEMORY


class There(torch.Tensor):
    """A tensor on the pretended device; `host` holds its numbers."""

    @staticmethod
    def __new__(cls, host, device):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=THERE,
        )

    def __init__(self, host, device):
        self.host, self.of = host, device

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self):
        """As PyTorch does for devices of its own."""
        self.of.note_read()
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        (device, *_) = [each.of for each in tree_leaves((args, kwargs)) if is_there(each)]
        return device.compute(func, args, kwargs or {})


def is_there(value):
    return isinstance(value, There)


@dataclass
class Waits:
    """Places (file:line) of ours at which the host waited: values that were read, and tensors that
    were moved."""

    read: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


class Impossible(RuntimeError):
    """A device would refuse this: tensors of both places, or numbers that it has not."""


class Pretended(TorchDispatchMode):
    """The device.

    Attributes:
        waits: of each prediction. between: outside of predictions.
    """

    def __init__(self):
        super().__init__()
        self.waits = []
        self.between = Waits()
        self._now = self.between

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.compute(func, args, kwargs or {})

    def compute(self, func, args, kwargs):
        """One operation."""
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        wanted, kind = kwargs.get("device"), func.overloadpacket
        there = tree_any(is_there, (args, kwargs))
        if not there and (wanted is None or torch.device(wanted).type != THERE.type):
            return func(*args, **kwargs)
        place = self.place()
        apart = there and any(not is_there(each) and each.ndim for each in tensors)
        crosses = apart or (wanted is not None and there != (torch.device(wanted) != HOST))
        copied = kind in COPIES or kind in INDEXED
        if place and ((there and kind in READS) or self.is_mask(kind, args)):
            self._now.read.append(place)
        elif place and crosses and copied:
            told_not_to = kwargs.get("non_blocking") and wanted != HOST
            self._now.moved += [] if told_not_to else [place]
        elif place and apart:
            raise Impossible(f"{place}: {func} of tensors on the device and on the host")
        if (
            place
            and there
            and any(each.dtype == torch.float64 for each in tensors if is_there(each))
        ):
            raise Impossible(f"{place}: {func} of float64, which some devices do not have")
        own = {id(each.host): each for each in tensors if is_there(each)}
        given, named = tree_map(lambda each: each.host if is_there(each) else each, (args, kwargs))
        if wanted is not None:
            named["device"] = HOST
        made = func(*given, **named)
        if (kind is aten._to_copy and wanted == HOST) or (
            kind is aten.copy_ and not is_there(args[0])
        ):
            return made
        return tree_map(
            lambda each: (
                (own.get(id(each)) if id(each) in own else There(each, self))
                if isinstance(each, torch.Tensor)
                else each
            ),
            made,
        )

    def note_read(self):
        """A list is made of a tensor: no operation at all."""
        if place := self.place():
            self._now.read.append(place)

    @staticmethod
    def is_mask(kind, args):
        return kind in INDEXED and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )

    @staticmethod
    def place():
        """file:line of the pack's code that asked for it; empty if somebody else did."""
        frame = sys._getframe(1)
        while frame.f_back and (
            frame.f_code.co_filename == __file__ or counting.passes_on(frame.f_code.co_filename)
        ):
            frame = frame.f_back
        name = frame.f_code.co_filename
        return (
            f"{name.rpartition('/')[2]}:{frame.f_lineno}" if name.startswith(counting.OURS) else ""
        )

    @contextmanager
    def prediction(self):
        self.waits.append(Waits())
        self._now = self.waits[-1]
        yield
        self._now = self.between

    def put(self, value):
        return There(value.clone(), self) if isinstance(value, torch.Tensor) else value

    def sampling(self, model):
        """A clone of a ModelPatcher whose sampler works there; weights are wherever they are
        needed."""

        def sample(executor, guider, sigmas, extra_args, callback, *tensors, **kwargs):
            with self, mock.patch.object(comfy.model_management, "get_free_memory", free_memory):
                made = executor(
                    guider,
                    self.put(sigmas),
                    extra_args,
                    callback,
                    *map(self.put, tensors),
                    **kwargs,
                )
            assert is_there(made), "the sampler has left the device"
            return made.host

        clone = counting.metered(model, self.prediction)
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "pretended", sample)
        return clone
