"""`python -m mrlstore.server ROOT`: the server where the extra `cli` is not installed. Same options."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from mrlstore.errors import MrlStoreError
from mrlstore.server.config import ServerConfig
from mrlstore.server.workers import serve


def main(arguments: list[str] | None = None) -> int:
    """Run one command line, that of the process by default; returns the exit code."""
    parser = argparse.ArgumentParser("python -m mrlstore.server", description="Serve the stores of a folder.")
    parser.add_argument("root", nargs="?", type=Path, help="The folder of the stores; else MRLSTORE_ROOT.")
    kinds = get_type_hints(ServerConfig)
    for each in fields(ServerConfig)[1:]:
        option = "--" + each.name.replace("_", "-")
        help_text = f"{each.metadata['help']} Else MRLSTORE_{each.name.upper()}."
        if kinds[each.name] is bool:
            parser.add_argument(option, action="store_true", default=None, help=help_text)
        else:
            kind = int if kinds[each.name] in (int, int | None) else str
            parser.add_argument(option, type=kind, metavar=each.metadata["metavar"], help=help_text)
    given = vars(parser.parse_args(arguments))
    paths = {
        name: Path(given[name])
        for name in ("api_keys", "tls_cert", "tls_key", "import_root")
        if given[name] is not None
    }
    try:
        serve(ServerConfig.from_environment(**{**given, **paths}))
    except (MrlStoreError, OSError) as error:
        print(f"mrlstore: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
