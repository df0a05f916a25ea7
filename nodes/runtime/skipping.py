"""Who else skips: found by what they do, whatever their name.

Functions of other packs inside the model may hand on what they have kept in place of running its
blocks. Two forecasters on one model make a picture that neither would make: what one makes up is
the other's truth. So where there are such functions, the blocks that run are watched.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import nn

from .blocks.family import bare
from .other_caches import name_of
from .rows import pass_of

# Predictions that are computed first beside functions that may skip. Who skips every second one is
# not seen where those are the ones that we draft.
WATCHED = 6
_known: set[frozenset[str]] = set()  # functions that were seen to skip, of each model


def suspects(model_options: Mapping[str, Any], diffusion_model: Any) -> frozenset[str]:
    """Names of the functions that others have put in the place of the model, or of its blocks."""
    options = model_options.get("transformer_options", {})
    found = [*options.get("patches_replace", {}).get("dit", {}).values()]
    wrappers = options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {})
    found += [function for functions in wrappers.values() for function in functions]
    found.append(model_options.get("model_function_wrapper"))
    replaced = (name for name in vars(bare(diffusion_model)) if name.startswith("forward"))
    found += [vars(bare(diffusion_model))[name] for name in replaced]
    return frozenset(name_of(function) for function in found if function is not None)


def is_known(names: frozenset[str]) -> bool:
    """Whether these were seen to skip before."""
    return names in _known


class BlockWatch:
    """The blocks that run in the computed calls of one run.

    Args:
        names: see `suspects`; if there are none, nothing is watched.
    """

    def __init__(self, names: frozenset[str], diffusion_model: Any) -> None:
        self.names = names
        self.skips = False  # once it was seen
        self._model = bare(diffusion_model)
        self._first: dict[Any, set[int]] = {}  # blocks that ran at first, by what was asked for

    @contextlib.contextmanager
    def computed(self, transformer_options: Mapping[str, Any]) -> Iterator[None]:
        """A call of the model. Extra passes (SLG) leave blocks out on purpose; they have patches of
        their own."""
        if not self.names or self.skips:
            yield
            return
        ran: set[int] = set()
        hooks = [
            block.register_forward_pre_hook(lambda *_, index=i: ran.add(index))
            for i, block in enumerate(blocks_of(self._model))
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        if self._first.setdefault(pass_of(transformer_options), ran) - ran:
            self.found()

    def found(self) -> None:
        """They skip; the next runs know it from the start."""
        self.skips = True
        if self.names:
            _known.add(self.names)


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a model: what its lists of modules hold, but for lists inside of those."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks_of(child)
