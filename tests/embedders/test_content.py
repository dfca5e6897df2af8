"""Media are what their bytes say, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrlstore.embedders.content import Audio, Image, Media, Pdf, Video, media_of, sniff
from mrlstore.embedders.media import pages, seconds
from mrlstore.errors import InvalidInput
from tests.embedders.gemini.media import film, jpeg, mp3, pdf, png, text_pdf, wav

KINDS = [
    (Image, png(), "image/png", "a.png"),
    (Image, jpeg(), "image/jpeg", "a.jpg"),
    (Audio, mp3(1), "audio/mpeg", "a.mp3"),
    (Audio, mp3(1, tagged=True), "audio/mpeg", "a.mp3"),
    (Audio, wav(1), "audio/wav", "a.wav"),
    (Video, film(1), "video/mp4", "a.mp4"),
    (Video, film(1, b"mp42"), "video/mp4", "a.mp4"),
    (Video, film(1, b"qt  "), "video/quicktime", "a.mov"),
    (Pdf, b"%PDF-1.7\n", "application/pdf", "a.pdf"),
    (Pdf, b"\xef\xbb\xbf%PDF-1.7\n", "application/pdf", "a.pdf"),
]


@pytest.mark.parametrize(("kind", "data", "mime_type", "name"), KINDS)
def test_from_bytes_path_and_uri(
    kind: type[Media], data: bytes, mime_type: str, name: str, tmp_path: Path
) -> None:
    misleading = tmp_path / "named.txt"
    misleading.write_bytes(data)
    for source in (data, bytearray(data), misleading, str(misleading)):
        medium = kind(source)
        assert (medium.mime_type, medium.read(), medium.size()) == (mime_type, data, len(data))
    assert kind(f"gs://bucket/{name}").mime_type == mime_type
    assert kind("https://host/x", mime_type=mime_type).mime_type == mime_type
    found = media_of(misleading)
    assert type(found) is kind and found.path == misleading


def test_a_file_is_read_late(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    medium = Image(path)
    path.write_bytes(png(2))
    assert medium.read() == png(2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "YCbCr", "F"])
def test_a_pil_image_becomes_png(mode: str) -> None:
    pil = pytest.importorskip("PIL.Image")
    medium = Image(pil.new(mode, (2, 2)))
    assert medium.mime_type == "image/png" and sniff(medium.read()) == "image/png"


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (Audio, film(1), "is video/mp4; Audio takes audio/mpeg or audio/wav: convert"),
        (Image, b"GIF89a" + bytes(20), "is image/gif; Image takes image/png or image/jpeg"),
        (Image, b"II*\x00" + bytes(20), "is image/tiff"),
        (Video, b"\x1aE\xdf\xa3" + bytes(20), "is video/webm"),
        (Audio, b"OggS" + bytes(20), "is audio/ogg"),
        (Image, b"words", "the MIME type is not known: the bytes begin as no known format"),
        (Image, b"", "the MIME type is not known"),
        (Image, 7, "bytes, a path or a URI is needed, not int"),
        (Image, "https://host/x", "give mime_type="),
    ],
)
def test_refusals_say_what_it_is(kind: type[Media], data: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        kind(data)


def test_a_wrong_mime_type_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'video/mp4' was given, the bytes say 'video/quicktime'"):
        Video(film(1, b"qt  "), mime_type="video/mp4")
    assert Audio(mp3(1), mime_type="audio/mp3").mime_type == "audio/mpeg"  # another name of the same


def test_a_missing_file_is_missed_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Image(tmp_path / "none.png")


@pytest.mark.parametrize(
    "medium", [Audio(wav(7.5)), Audio(mp3(7.5)), Video(film(7.5)), Video(film(7.5, b"qt  "))], ids=repr
)
def test_durations(medium: Media, tmp_path: Path) -> None:
    pytest.importorskip("tinytag")
    assert seconds(medium) == pytest.approx(7.5, abs=0.03)
    path = tmp_path / "kept"
    path.write_bytes(medium.read())
    assert seconds(type(medium)(path)) == pytest.approx(7.5, abs=0.03)


@pytest.mark.parametrize("data", [wav(1)[:30], film(1)[:20]], ids=["wav", "mp4"])
def test_a_damaged_file_has_no_duration(data: bytes) -> None:
    pytest.importorskip("tinytag")
    kind = Audio if data.startswith(b"RIFF") else Video
    with pytest.raises(InvalidInput, match="duration"):
        seconds(kind(data))


def test_pages() -> None:
    pytest.importorskip("pypdf")
    assert pages(Pdf(pdf(3))) == 3
    with pytest.raises(InvalidInput, match="pages cannot be counted"):
        pages(Pdf(b"%PDF-1.7 and nothing more"))


@pytest.mark.parametrize(
    "text",
    [
        "BMW builds cars.",
        "ID3 tags name songs.",
        "The wide sea.",
        "A PDF begins with %PDF-1.7",
        "GIF8 é" * 300,
    ],
)
def test_a_text_that_begins_as_a_medium_does_is_a_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "text").write_text(text, encoding="utf-8")
    assert media_of(tmp_path / "text") is None


@pytest.mark.parametrize("data", [text_pdf("words"), b"\xfe junk %PDF-1.4"], ids=["ascii", "junk"])
def test_pdfs_that_are_all_letters_or_begin_with_something_else(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert isinstance(media_of(tmp_path / "file"), Pdf)
