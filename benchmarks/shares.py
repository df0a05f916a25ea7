"""Where a draft's time goes: the parts of each prediction, timed from inside while a run is under way."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from speca_pack.speca_core import session
from speca_pack.nodes.runtime.blocks.proxy import Head
from speca_pack.speca_core.session import Call, Session
from speca_pack.speca_core.verifiers import Embedded

Times = list[Callable[[], float]]
Clock = Callable[[Times], AbstractContextManager[None]]


class Parts:
    """The parts of one prediction: a list of times each."""

    def __init__(self) -> None:
        self.times: defaultdict[str, Times] = defaultdict(list)

    def milliseconds(self) -> dict[str, float]:
        """Of each part. The first run of the head makes the draft, all others belong to the check; `embedders` is what is left."""
        spent = {part: [time() for time in times] for part, times in self.times.items()}
        draft, *others = spent.pop("head")
        found = {part: sum(times) for part, times in spent.items()} | {"head": draft}
        found["check"] += sum(others)
        model = found.pop("model")
        return found | {"embedders": model - sum(found[part] for part in ("forecast", "head", "check"))}


@contextmanager
def watched(module: Any, clock: Clock) -> Iterator[list[Parts]]:
    """Time the parts of every prediction made inside, on a model of one call per prediction, checked by `embedded`.

    Args:
        module: the diffusion model.
        clock: a context that appends what gives its milliseconds to a list.

    Yields:
        one entry per prediction, added when it begins.
    """
    predictions: list[Parts] = []

    def timed(part: str, function: Callable[..., Any], begins: bool = False) -> Callable[..., Any]:
        def work(*args: Any, **kwargs: Any) -> Any:
            if begins:
                predictions.append(Parts())
            with clock(predictions[-1].times[part]):
                return function(*args, **kwargs)

        return work

    with ExitStack() as stack:
        for owner, name, part in (
            (module, "forward", "model"),
            (Call, "forecast", "forecast"),
            (Head, "__call__", "head"),
            (session, "weighted_sum", "check"),  # the two opinions; forecasters have a name for it of their own
            (Call, "guided", "check"),
            (Embedded, "error", "check"),
            (Session, "arrive", "path"),
            (Session, "serve", "path"),
        ):
            stack.enter_context(patch.object(owner, name, timed(part, getattr(owner, name), begins=name == "arrive")))
        yield predictions
