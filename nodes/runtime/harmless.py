"""What merely observes a run never ends it."""

import contextlib
import logging
from collections.abc import Iterator

from comfy.model_management import InterruptProcessingException

log = logging.getLogger("speca")


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """What goes wrong in here is said in the log, and the picture is made all the same.

    Example: `with harmless("telling the page"): send(report)`.

    Args:
        what: is done in here, as in "telling the page".
    """
    try:
        yield
    except InterruptProcessingException:
        raise  # this is no fault
    except Exception:
        log.warning("SpeCa: %s failed; the picture is not touched by that.", what, exc_info=True)
