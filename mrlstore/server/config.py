"""`ServerConfig`: what a server is started with, from options or from the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

from mrlstore.errors import InvalidInput

PREFIX: Final = "MRLSTORE_"
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("", "0", "false", "no", "off")


def _option(default: Any, help: str, metavar: str | None = None) -> Any:
    """A field with the help text of its option; its environment variable has the field's name."""
    return field(default=default, metadata={"help": help, "metavar": metavar})


@dataclass(frozen=True)
class ServerConfig:
    """The options of a server. Each is also an environment variable: `public_url` is MRLSTORE_PUBLIC_URL.

    Raises InvalidInput where options contradict each other: an address that others reach needs keys.
    """

    root: Path
    host: str = _option(
        "127.0.0.1", "Address to listen on. Any other than this machine's own needs --api-keys."
    )
    port: int = _option(5080, "Port to listen on.", "N")
    workers: int = _option(1, "Number of processes that answer requests.", "N")
    public_url: str | None = _option(
        None, "The URL that clients use, if it is another one, such as https://vectors.example.org.", "URL"
    )
    allowed_hosts: str = _option(
        "", "More names, separated by commas, that requests may be addressed to (the header Host).", "NAMES"
    )
    api_keys: Path | None = _option(None, "The file of keys, see `mrlstore keys`.", "FILE")
    read_only: bool = _option(False, "Refuse everything that writes.")
    tls_cert: Path | None = _option(None, "Certificate chain in PEM, for https.", "FILE")
    tls_key: Path | None = _option(None, "Private key in PEM, for https.", "FILE")
    import_root: Path | None = _option(
        None, "The folder below which clients may have Parquet files imported.", "FOLDER"
    )
    max_body_mb: int = _option(64, "Largest body of a request, in MB.", "N")
    max_requests: int = _option(64, "Requests of one key at a time in each process; more get 429.", "N")
    max_rate: int = _option(
        0, "Requests of one key a second in each process; more get 429. 0: no limit.", "N"
    )
    timeout_s: int = _option(60, "Seconds that a request may take, including its body and its answer.", "N")
    idle_s: int = _option(75, "Seconds that an idle connection stays open.", "N")
    header_s: int = _option(10, "Seconds in which a client must send the headers of a request.", "N")
    drain_s: int = _option(30, "Seconds that running requests get to finish when the server is stopped.", "N")
    open_stores: int = _option(64, "Number of stores that each process keeps open.", "N")
    threads: int | None = _option(
        None, "Threads for builds and batches of each store; all cores by default.", "N"
    )
    access_log: bool = _option(False, "Log each request, to the logger mrlstore.server.access.")
    telemetry: bool = _option(False, "Report spans and metrics to OpenTelemetry's providers.")

    def __post_init__(self) -> None:
        for name in ("port", "workers", "max_body_mb", "max_requests", "timeout_s", "idle_s", "header_s"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("max_rate", "drain_s", "open_stores"):
            if getattr(self, name) < (name == "open_stores"):
                raise InvalidInput(f"{name}: {getattr(self, name)} is too small")
        if self.port > 65_535:
            raise InvalidInput(f"port: expected at most 65535, got {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidInput("tls_cert and tls_key go together; give both or neither")
        if self.api_keys is None and not is_loopback(self.host):
            raise InvalidInput(
                f"host: {self.host} can be reached from other machines, which needs keys: make some by "
                "`mrlstore keys add keys.json --role write` and give --api-keys keys.json"
            )
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise InvalidInput(f"public_url: {self.public_url!r} is not like https://vectors.example.org")

    @property
    def tls(self) -> bool:
        """Whether the server itself speaks https."""
        return self.tls_cert is not None

    @property
    def host_names(self) -> frozenset[str]:
        """The names that requests may be addressed to, in lower case; addresses of the socket come on top."""
        names = {"localhost", "127.0.0.1", "::1", self.host.lower()}
        names.update(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())
        if self.public_url is not None:
            names.add((urlsplit(self.public_url).hostname or "").lower())
        return frozenset(names - {"0.0.0.0", "::"})

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **options: Any) -> ServerConfig:
        """The config of the environment variables MRLSTORE_ROOT, MRLSTORE_HOST and so on.

        Args:
            environ: the variables, by default those of the process.
            options: fields that come before their variables; None counts as not given.

        Raises:
            InvalidInput: no root is given, or a value is wrong.
        """
        environ = os.environ if environ is None else environ
        kinds, values = (
            get_type_hints(cls),
            {name: value for name, value in options.items() if value is not None},
        )
        for each in fields(cls):
            text = environ.get(PREFIX + each.name.upper())
            if each.name not in values and text is not None:
                values[each.name] = _parsed(each.name, kinds[each.name], text)
        if "root" not in values:
            raise InvalidInput("root: give the folder of the stores, or set MRLSTORE_ROOT")
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """The variables from which `from_environment` makes the same config, in a worker process."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            PREFIX + name.upper(): str(int(value) if isinstance(value, bool) else value)
            for name, value in values.items()
            if value is not None
        }


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _parsed(name: str, kind: Any, text: str) -> Any:
    variable = PREFIX + name.upper()
    if kind is bool:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise InvalidInput(f"{variable}: expected 1 or 0, got {text!r}")
        return text.lower() in _TRUE
    if kind in (int, int | None):
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(f"{variable}: expected a whole number, got {text!r}") from None
    return Path(text) if kind in (Path, Path | None) else text
