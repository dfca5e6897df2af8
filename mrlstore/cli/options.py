"""The arguments and options that several commands share, and what they become."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mrlstore

Decorated = Callable[..., Any]
if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic from click 8.2 on only


def json_object(text: str) -> dict[str, Any]:
    """A JSON object given as text; anything else is a usage error."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise click.BadParameter(f'{text!r} is not a JSON object like {{"year": 2021}}')
    return parsed


class FileOrUrl(_ParamType):
    """A file, or the URL of one in object storage, which stays a text."""

    name = "file or URL"

    def __init__(self, *, must_exist: bool) -> None:
        self._reads = must_exist
        self._path = click.Path(path_type=Path, exists=must_exist, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path, or the URL as it is."""
        if "://" in str(value):
            return value
        if self._reads and Path(value).is_dir():
            self.fail(
                f"{value} is a folder: `mrlstore add` reads folders of texts, `mrlstore migrate` those of "
                "other databases", param, ctx,
            )  # fmt: skip
        return self._path.convert(value, param, ctx)


def store_argument(function: Decorated) -> Decorated:
    """STORE, the store's folder."""
    return click.argument("store", type=click.Path(path_type=Path))(function)


def json_option(function: Decorated) -> Decorated:
    """--json, for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(function)


def namespace_option(function: Decorated) -> Decorated:
    """--namespace, the unnamed one by default."""
    return click.option(
        "-n", "--namespace", default="", metavar="NAME", help="The namespace; the unnamed one by default."
    )(function)


def where_option(function: Decorated) -> Decorated:
    """--where, a filter as JSON."""
    return click.option(
        "-w",
        "--where",
        type=json_object,
        metavar="JSON",
        help='Only rows whose metadata match this filter, such as \'{"year": {"$gte": 2020}}\'.',
    )(function)


def _several(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[str] | None:
    return list(values) or None


def picking_options(function: Decorated) -> Decorated:
    """What query picks from the rows that it finds: pages, groups, diverse hits, rows like examples."""
    for option in (
        click.option(
            "--like", "positive", multiple=True, callback=_several, metavar="ID",
            help="Rows like this one, which is not a hit itself; may be given several times.",
        ),
        click.option(
            "--unlike", "negative", multiple=True, callback=_several, metavar="ID",
            help="With --like: rows that are not like this one; may be given several times.",
        ),
        click.option("--offset", type=int, metavar="N", help="Pass over the best N hits: the next page."),
        click.option(
            "--group-by", metavar="FIELD", help="The k groups, by this metadata field, with the best hits."
        ),
        click.option("--group-size", type=int, metavar="N", help="Hits of each group; by default 1."),
        click.option(
            "--diversity", type=float, metavar="D",
            help="From 0 to 1: pick hits that are unlike those before (maximal marginal relevance).",
        ),
        click.option("--candidates", type=int, metavar="N", help="With --diversity: pick among so many."),
    ):  # fmt: skip
        function = option(function)
    return function


def threads_option(function: Decorated) -> Decorated:
    """--threads, all allowed cores by default."""
    return click.option(
        "--threads", type=click.IntRange(min=1), metavar="N", help="Threads to use; all cores by default."
    )(function)


def timeout_option(function: Decorated) -> Decorated:
    """--timeout, how long to wait for another process's turn."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=float,
        metavar="SECONDS",
        help="How long to wait while another process indexes; by default an hour.",
    )(function)


def open_existing(path: Path, threads: int | None = None) -> mrlstore.Store:
    """Open a store for work on it; unlike mode "a", never creates one. No background work is started.

    Raises:
        StoreNotFound: there is none.
    """
    mrlstore.open(path, mode="r").close()
    return mrlstore.open(path, mode="a", threads=threads, auto_maintain=False)


def _key_values(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """KEY=VALUE options as what obstore takes; `client_options.KEY` goes one level deeper."""
    found: dict[str, Any] = {}
    for value in values:
        key, separator, text = value.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        group, dot, inner = key.partition(".")
        (found.setdefault(group, {}) if dot else found)[inner if dot else key] = _plain(text)
    return found or None


def _plain(text: str) -> Any:
    return {"true": True, "false": False}.get(text.lower(), text)


def storage_option(function: Decorated) -> Decorated:
    """--option, which is passed on to obstore."""
    return click.option(
        "--option",
        "options",
        multiple=True,
        callback=_key_values,
        metavar="KEY=VALUE",
        help="For buckets, what obstore takes, such as region, endpoint or server_side_encryption; may be "
        "given several times. Secrets belong in the environment: other users see command lines.",
    )(function)
