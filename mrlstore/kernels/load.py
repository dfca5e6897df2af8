"""The compiled kernels of searches, loaded at the first search: numba takes a second to start."""

from __future__ import annotations

from types import SimpleNamespace

from mrlstore.system import forks

# Hold it while importing a module that needs numba: no fork takes place meanwhile. A child would find the
# interpreter's lock of a module that another thread is importing held for ever.
importing = forks.long_lock()
_loaded: list[SimpleNamespace] = []


def kernels() -> SimpleNamespace:
    """The kernels as attributes, compiled or loaded from the cache; only here searches import numba."""
    if not _loaded:
        with importing:
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
