"""Names of files that are made from other names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

_NAME_BYTES: Final = 255  # the longest name that Linux's file systems and APFS take


def beside(path: Path, suffix: str) -> Path:
    """A path in the same folder, named like `path` with an ASCII suffix.

    If that name would be too long, the name of `path` is cut, and a digest of it tells it from others.
    """
    name = os.fsencode(path.name)
    if len(name) + len(suffix) > _NAME_BYTES:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        kept = name[: _NAME_BYTES - len(suffix) - len(digest) - 1].decode(errors="ignore")
        name = os.fsencode(kept) + b"-" + digest
    return path.with_name(os.fsdecode(name) + suffix)
