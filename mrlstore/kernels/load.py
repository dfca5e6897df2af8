"""The compiled kernels of searches, loaded at the first one: numba takes a second to start."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

_loaded: list[SimpleNamespace] = []
_loading = threading.Lock()
# A child forked in the midst of an import would wait for ever for the thread that was importing.
os.register_at_fork(
    before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
)


def kernels() -> SimpleNamespace:
    """All of them; the only place where searches import numba."""
    if not _loaded:
        with _loading:
            from mrlstore.kernels import rerank, scan, scratch, walk

            _loaded[:] = [
                SimpleNamespace(
                    search_walk=walk.search_walk.ready(),
                    search_scan=scan.search_scan.ready(),
                    rerank=rerank.rerank.ready(),
                    exact=rerank.exact.ready(),
                    normalise=rerank.normalise.ready(),
                    scratch=scratch.scratch,
                )
            ]
    return _loaded[0]
