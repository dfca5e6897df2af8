"""Cached kernels are pickles with machine code: they are loaded only from where nobody else can put them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrlstore.kernels import code_cache
from tests.kernels.test_jit import SMALL, child

HITS = SMALL + "print(sum(unit_rows.normalise.ready().stats.cache_hits.values()))"


@pytest.mark.parametrize("how", ["link", "others may write"])
def test_kernels_that_others_may_have_put_there_are_not_loaded(tmp_path: Path, how: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    environment = {"MRLSTORE_CACHE_DIR": str(first), "XDG_CACHE_HOME": str(second)}
    child(environment)
    assert child(environment, HITS) == "1"
    folder = first / f"kernels-{code_cache.source_key()}"
    if how == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.chmod(0o777)
    assert child(environment, HITS) == "0"
    assert list(second.rglob("*.nbi")), "the next folder is taken"
