"""What a server says about itself: /health, /ready and /metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute, Route

from mrlstore.server import metrics
from mrlstore.server.api_keys import Role
from mrlstore.server.bodies import dump
from mrlstore.server.http_call import HttpCall
from mrlstore.server.operations import Answer, GeneralOperation, Serving
from mrlstore.server.refusals import HttpRefusal
from mrlstore.version import __version__

OPEN: Final = frozenset({"/health", "/ready"})  # need no key


def routes(serving: Serving) -> Sequence[BaseRoute]:
    """The routes, which belong to no API."""

    def health(call: HttpCall, body: bytes) -> Answer:
        return Answer(dump({"status": "ok", "version": __version__}))

    def ready(call: HttpCall, body: bytes) -> Answer:
        """Whether the folder of the stores can be read, and written where the server writes."""
        needed = os.R_OK | os.X_OK | (0 if serving.config.read_only else os.W_OK)
        if not os.access(serving.root.path, needed):
            raise HttpRefusal(
                503, "UNAVAILABLE", "the folder of the stores cannot be used", {"Retry-After": "1"}
            )
        return Answer(dump({"status": "ready"}))

    def figures(call: HttpCall, body: bytes) -> Answer:
        """For keys that are not limited to some indexes, since it names all."""
        if call.grant.indexes is not None:
            raise HttpRefusal(
                403, "PERMISSION_DENIED", "metrics are of all indexes, and this key opens only some"
            )
        return Answer(metrics.text(serving.root), content_type=metrics.CONTENT_TYPE)

    return [
        Route("/health", GeneralOperation(serving, "health", Role.READ, health), methods=["GET"]),
        Route("/ready", GeneralOperation(serving, "ready", Role.READ, ready), methods=["GET"]),
        Route("/metrics", GeneralOperation(serving, "metrics", Role.READ, figures), methods=["GET"]),
    ]
