"""A rich console that prints no control characters of the data, and only what its encoding can hold."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mrlstore.cli.safe_text import in_encoding, safe_text


class SafeConsole(Console):
    """The console for whatever is printed by rich.

    A closed pipe is left to `app.run`, like that of every other output.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed; styles become escape sequences only after this."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(in_encoding(safe_text(segment.text), self.encoding), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise, instead of ending the process."""
        raise BrokenPipeError
