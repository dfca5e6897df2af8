"""The code of docs/gemini.md, run in order against the local server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.embedders.gemini.media import film, mp3, pdf, png
from tests.embedders.gemini.server import Answer, Call, Google, refused

GUIDE = Path(__file__).parents[3] / "docs" / "gemini.md"
BLOCKS = re.compile(r"^```py\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_guide(
    google: Google, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINI_API_KEY", "K")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", google.url)
    for name, data in (("cat.png", png()), ("meow.mp3", mp3(3)), ("cat.mp4", film(3)), ("paper.pdf", pdf(2))):
        (tmp_path / name).write_bytes(data)

    def decide(call: Call) -> Answer | None:
        poison = any("poison" in str(content) for content in call.contents)
        return refused(400, "I cannot read this.", "INVALID_ARGUMENT") if poison else None

    google.decide = decide
    text = GUIDE.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = list(BLOCKS.finditer(text))
    assert len(blocks) >= 12
    for block in blocks:
        line = text.count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block[1], str(GUIDE), "exec"), names)
        google.finish()  # a day has passed
    names["store"].close()
    names["embedder"].client.sdk.close()
    printed = capsys.readouterr().out
    assert "split it: mrlstore.embedders.split_text" in printed and "I cannot read this." in printed
    assert printed.startswith("cat ") or printed.startswith("rates ")


def test_what_the_guide_says_of_the_sdk() -> None:
    """The tables of the guide are those of the code."""
    from mrlstore.embedders.gemini import MODELS, TASKS, VERTEX_MODELS

    text = GUIDE.read_text(encoding="utf-8")
    for name, task in TASKS.items():
        assert f'`"{name}"`' in text and task.query_type in text
        assert task.query_prefix.split(" | ")[0] in text
    limits = {
        row.split("|")[1].strip(): row.split("|")[2:-1] for row in text.splitlines() if row.startswith("| ")
    }
    developer, on_vertex = MODELS["gemini-embedding-2"], VERTEX_MODELS["gemini-embedding-2"]
    for column, model in enumerate((developer, on_vertex, MODELS["gemini-embedding-001"])):
        assert f"{model.tokens:,} tokens" in limits["text"][column]
    for column, model in enumerate((developer, on_vertex)):
        assert limits["images"][column].strip().startswith(f"{model.images}:")
        assert f"{model.audio_s:.0f} s" in limits["sound"][column]
        assert f"{model.video_s:.0f} s" in limits["film"][column]
        assert f"{model.pdf_pages} pages" in limits["PDF"][column]
        assert limits["contents in one request"][column].strip() == str(model.batch)
        names = " ".join(limits[kind][column] for kind in ("images", "sound", "film")).lower()
        for mime_type in model.mime_types or ():
            name = {"video/quicktime": "mov", "audio/mpeg": "mp3"}.get(mime_type, mime_type.split("/")[1])
            assert name in names or name == "pdf"
    assert developer.pdf_bytes == 50_000_000 and "50 MB" in limits["PDF"][0]
    assert developer.inline_bytes == 75_000_000 and "75 MB" in limits["media sent inline"][0]
    assert on_vertex.video_with_sound_s == 80 and "80 s" in limits["film"][1]
    assert all(f"`{place}`" in limits["locations"][1] for place in on_vertex.locations or ())
    assert MODELS["gemini-embedding-2-preview"].ended == "2026-08-10" and "2026-08-10" in text
