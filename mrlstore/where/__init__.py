"""The filter language: `parse` makes a tree of `nodes` from a dict that is given as `where`.

`mrlstore.columns` evaluates the tree over many rows at once, and uses `Node.matches` for the few rows that it
cannot decide.
"""

from mrlstore.where.fields import as_whole, order_key, scalars_of
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
    OtherThan,
    Range,
    Scalar,
    Within,
    resolve,
)
from mrlstore.where.parse import MAX_PATH, check_field, parse

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
    "OtherThan",
    "Range",
    "Scalar",
    "Within",
    "as_whole",
    "check_field",
    "order_key",
    "parse",
    "resolve",
    "scalars_of",
]
