"""The filter language: from a dict given as `where`, `parse` makes a tree of `nodes`, each of plain meaning.

`columns` evaluates the same tree over many rows at once and asks `Node.matches` for the few rows it cannot
decide.
"""

from mrlstore.where.nodes import (
    MISSING,
    And,
    AnyMember,
    Contains,
    Exists,
    In,
    Leaf,
    Node,
    Not,
    Or,
    Ordering,
    Range,
    Scalar,
    resolve,
)
from mrlstore.where.parse import MAX_PATH, parse

__all__ = [
    "MAX_PATH",
    "MISSING",
    "And",
    "AnyMember",
    "Contains",
    "Exists",
    "In",
    "Leaf",
    "Node",
    "Not",
    "Or",
    "Ordering",
    "Range",
    "Scalar",
    "parse",
    "resolve",
]
