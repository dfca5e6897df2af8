"""What stores log, all to the logger "mrlstore": one line for people, and the same as fields for machines."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

LOGGER: Final = logging.getLogger("mrlstore")


def log_event(
    event: str,
    store: str | os.PathLike[str],
    message: str = "",
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
    details = ", ".join(f"{name}={_short(value)}" for name, value in fields.items())
    line = f"{store}: {event}" + (f": {message}" if message else "") + (f" ({details})" if details else "")
    extra = {"event": event, "store": os.fspath(store), **fields}
    LOGGER.log(level, "%s", line, exc_info=trace, extra=extra)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
