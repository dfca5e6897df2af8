"""Reading query vectors from the command line: a .npy file, or a JSON list of numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput


def read_vector(text: str) -> NDArray[Any]:
    """Read one vector [dim]: from a .npy file, or from a JSON list of numbers."""
    if text.lstrip().startswith("["):
        try:
            vector = np.array(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"--vector is not a JSON list of numbers: {error}") from error
    else:
        try:
            vector = read_vectors(Path(text))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InvalidInput(f"--vector: no file {text}; expected a .npy file or a JSON list") from error
    vector = np.squeeze(vector)
    if vector.ndim != 1:
        raise InvalidInput(f"--vector must be one vector, not of shape {list(vector.shape)}")
    return vector


def read_vectors(path: Path) -> NDArray[Any]:
    """The array of a .npy file; the store judges its shape."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is not a .npy file of vectors: {error}") from error
    if not isinstance(found, np.ndarray):
        raise InvalidInput(f"{path} is an archive of several arrays, not a .npy file of vectors")
    return found
