"""Questions and answers as they travel between processes: arrays as bytes, results whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlstore.cluster.engine import ShardAnswer, ShardQuestion
from mrlstore.types import Hit, HitGroup, Plan, Result


class PackedArray(NamedTuple):
    """An array as bytes, which cost less in a message than an array does."""

    data: bytes
    dtype: str
    shape: tuple[int, ...]


class PackedResult(NamedTuple):
    """A result with everything made that its properties would make."""

    hits: list[Hit]
    plan: Plan
    groups: list[HitGroup]


def packed_question(question: ShardQuestion) -> ShardQuestion:
    """The question with its vectors as bytes."""
    return ShardQuestion(question.name, {name: packed(value) for name, value in question.arguments.items()})


def unpacked_question(question: ShardQuestion) -> ShardQuestion:
    """The question as it was."""
    return ShardQuestion(question.name, {name: unpacked(value) for name, value in question.arguments.items()})


def packed_answer(answer: ShardAnswer) -> ShardAnswer:
    """The answer without what it holds open in this process."""
    return answer._replace(value=packed(answer.value))


def unpacked_answer(answer: ShardAnswer) -> ShardAnswer:
    """The answer as it was."""
    return answer._replace(value=unpacked(answer.value))


def packed(value: Any) -> Any:
    """A value that is cheap to send."""
    if isinstance(value, np.ndarray):
        return PackedArray(value.tobytes(), value.dtype.str, value.shape)
    if isinstance(value, Result):
        return PackedResult(list(value.hits), value.plan, value.groups)
    if type(value) is list and value and isinstance(value[0], Result):
        return [packed(one) for one in value]
    if type(value) is dict:
        return {name: packed(one) for name, one in value.items()}
    return value


def unpacked(value: Any) -> Any:
    """What was packed."""
    if isinstance(value, PackedArray):
        array: NDArray[Any] = np.frombuffer(value.data, value.dtype).reshape(value.shape)
        return array
    if isinstance(value, PackedResult):
        scores = np.array([hit.score for hit in value.hits], dtype=np.float32)
        return Result([hit.id for hit in value.hits], scores, value.plan, value.hits, value.groups)
    if type(value) is list and value and isinstance(value[0], PackedResult):
        return [unpacked(one) for one in value]
    if type(value) is dict:
        return {name: unpacked(one) for name, one in value.items()}
    return value
