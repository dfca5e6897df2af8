"""Reads the vector that a query asks with."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from mrlstore.errors import InvalidInput


def read_vector(text: str) -> NDArray[np.float32]:
    """Read one vector, float32 [dim]: from a .npy file, or from a JSON list."""
    if text.lstrip().startswith("["):
        try:
            vector = np.array(json.loads(text), dtype=np.float32)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"--vector is no JSON list of numbers: {error}") from error
    else:
        try:
            vector = np.asarray(np.load(text, allow_pickle=False), dtype=np.float32)
        except FileNotFoundError as error:
            raise InvalidInput(f"--vector: no file {text}; a .npy file or a JSON list is wanted") from error
        except (ValueError, EOFError, TypeError) as error:
            raise InvalidInput(f"{text} is no .npy file of one vector: {error}") from error
    vector = np.squeeze(vector)
    if vector.ndim != 1:
        raise InvalidInput(f"--vector must be one vector, not of shape {list(vector.shape)}")
    return vector
