"""`TierReport`: the figures of a tier report with the ways to write them to a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mrlstore.errors import InvalidInput
from mrlstore.recall.tiers.figures import TierFigures


@dataclass(frozen=True)
class TierReport(TierFigures):
    """What `store.tier_report` found. `save` writes it as .json, .csv, .html or .png."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        found = asdict(self)
        for plain, tier in zip(found["tiers"], self.tiers, strict=True):
            plain["projected"] = {
                str(n): {"disk_bytes": disk, "memory_bytes": memory}
                for n, (disk, memory) in self.projected(tier).items()
            }
        found["curves"] = {str(dim): [list(point) for point in curve] for dim, curve in self.curves.items()}
        return found

    def save(self, path: Any) -> None:
        """Write a .json, .csv, .html or .png file; the last two need `pip install mrlstore[report]`."""
        from mrlstore.recall.tiers import page, plots  # imported here, since most reports are never drawn

        target = Path(path)
        ending = target.suffix.lower()
        if ending == ".json":
            text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
            target.write_text(text + "\n", encoding="utf-8")
        elif ending == ".csv":
            target.write_text(page.as_csv(self), encoding="utf-8", newline="")
        elif ending == ".png":
            target.write_bytes(plots.as_png(self))
        elif ending in (".html", ".htm"):
            target.write_text(page.as_html(self), encoding="utf-8")
        else:
            raise InvalidInput(f"{target.name}: a report is written as .json, .csv, .html or .png")
