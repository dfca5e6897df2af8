"""`serve`: runs the application in one process or several, until it is told to stop."""

from __future__ import annotations

import logging
import os
import resource
import signal
import tempfile
from contextlib import suppress
from typing import Any, Final

import uvicorn

from mrlstore.errors import InvalidInput
from mrlstore.server.config import ServerConfig

_LOG: Final = logging.getLogger("mrlstore.server")
_FORMAT: Final = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT; requests that run are finished first, for up to `drain_s` seconds.

    With several workers uvicorn watches over them, and starts another where one has died.

    Raises:
        InvalidInput: a file that the config names cannot be used.
        OSError: the address cannot be used.
    """
    for name in ("tls_cert", "tls_key", "api_keys"):
        path = getattr(config, name)
        if path is not None and not os.access(path, os.R_OK):
            raise InvalidInput(f"{name}: {path} cannot be read")
    _raise_descriptor_limit()
    # uvicorn gives the signal that stopped it to whoever handled it before: this ends with exit code 0
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory(prefix="mrlstore-metrics-") as metrics:
        os.environ.update(config.to_environment())
        if config.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        uvicorn.run(
            "mrlstore.server:app",
            host=config.host,
            port=config.port,
            workers=config.workers,
            http="mrlstore.server.http_connection:HttpConnection",
            ws="none",
            lifespan="on",
            timeout_keep_alive=config.idle_s,
            timeout_graceful_shutdown=config.drain_s,
            access_log=False,  # there is one of its own, with what a key did
            server_header=False,
            proxy_headers=False,
            backlog=2_048,
            ssl_certfile=None if config.tls_cert is None else os.fspath(config.tls_cert),
            ssl_keyfile=None if config.tls_key is None else os.fspath(config.tls_key),
            log_config=_logging(config.access_log),
        )


def _logging(access_log: bool) -> dict[str, Any]:
    """Everything to standard error, one line each."""
    logger = {"handlers": ["stderr"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": _FORMAT}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            "mrlstore": logger,
            "mrlstore.server.access": {**logger, "level": "INFO" if access_log else "WARNING"},
            "uvicorn": logger,
        },
    }


def _raise_descriptor_limit() -> None:
    """As many open files as the system allows: a connection and an open store each hold some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            _LOG.warning("the limit of open files stays at %d: %s", soft, error)
