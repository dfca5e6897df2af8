"""What the integrations share: a store, or the path of one, is what each of them is made from."""

from __future__ import annotations

import os
from typing import Any

import mrlstore
from mrlstore.errors import InvalidInput
from mrlstore.store import Store


def opened(path_or_store: str | os.PathLike[str] | Store, options: dict[str, Any]) -> tuple[Store, bool]:
    """The store, and whether it was opened here, so that whoever asked closes it again.

    Raises InvalidInput for options beside a store that is open already, and as `mrlstore.open` does.
    """
    if not isinstance(path_or_store, Store):
        return mrlstore.open(path_or_store, **options), True
    if options:
        raise InvalidInput(f"{', '.join(options)}: the store is open already; give them to mrlstore.open")
    return path_or_store, False
