"""What stores log, all to the logger "mrlstore": one line for people, and the same as fields for machines."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

LOGGER: Final = logging.getLogger("mrlstore")


def tell(
    event: str,
    store: str | os.PathLike[str],
    words: str = "",
    *,
    level: int = logging.INFO,
    trace: bool = False,
    **fields: Any,
) -> None:
    """Log an event of a store.

    The record carries `event`, `store` and the fields as attributes, as those of `extra=` are, and the
    message reads `<store>: <event>: <words> (<field>=<value>, ...)`. `trace` adds the exception that is being
    handled.
    """
    if not LOGGER.isEnabledFor(level):
        return
    said = ", ".join(f"{name}={_short(value)}" for name, value in fields.items())
    message = f"{store}: {event}" + (f": {words}" if words else "") + (f" ({said})" if said else "")
    extra = {"event": event, "store": os.fspath(store), **fields}
    LOGGER.log(level, "%s", message, exc_info=trace, extra=extra)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
