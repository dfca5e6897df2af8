"""The compiled kernels of searches, loaded at the first search: numba takes a second to start."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

_loaded: list[SimpleNamespace] = []
_loading = threading.Lock()
# A child that was forked during the import would wait for ever for the thread that was importing.
os.register_at_fork(
    before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
)


def kernels() -> SimpleNamespace:
    """The kernels as attributes, compiled or loaded from the cache; only here searches import numba."""
    if not _loaded:
        with _loading:
            from mrlstore.kernels import rerank, two_stage, unit_rows

            _loaded[:] = [
                SimpleNamespace(
                    search_walk=two_stage.search_walk.ready(),
                    search_scan=two_stage.search_scan.ready(),
                    rerank=rerank.rerank.ready(),
                    exact=rerank.exact.ready(),
                    normalise=unit_rows.normalise.ready(),
                )
            ]
    return _loaded[0]
