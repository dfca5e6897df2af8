"""Imported once by the server that children are forked from: the heavy imports and the kernels."""

from __future__ import annotations

import os

import apsw  # noqa: F401
import numpy  # noqa: F401

import mrlstore.api.store  # noqa: F401
import mrlstore.kernels.load
import mrlstore.search.group_search  # noqa: F401
import tests.oracle  # noqa: F401

if os.environ.get("MRLSTORE_TEST_SWITCH"):
    import tests.harness.switches  # noqa: F401

mrlstore.kernels.load.warm()  # compiled or loaded here once, so that no child has to
