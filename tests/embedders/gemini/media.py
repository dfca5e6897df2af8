"""Small real files of every kind that the models take, and of some that they do not."""

from __future__ import annotations

import io
import struct
import wave
import zlib


def png(colour: int = 0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes([colour]) * 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(9) + b"\xff\xd9"


def wav(seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(100)
        file.writeframes(b"\x80" * round(seconds * 100))
    return buffer.getvalue()


def mp3(seconds: float, tagged: bool = False) -> bytes:
    frame = b"\xff\xfb\x90\x00" + bytes(413)  # MPEG 1 layer III, 128 kbit/s, 44,100 Hz: 1,152 samples
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x00" if tagged else b""
    return tag + frame * round(seconds * 44100 / 1152)


def film(seconds: float, brand: bytes = b"isom") -> bytes:
    def box(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data) + 8) + name + data

    times = b"\0\0\0\0" + struct.pack(">IIII", 0, 0, 1000, round(seconds * 1000))
    header = box(b"mvhd", times + struct.pack(">IH", 0x10000, 0x100) + bytes(70) + struct.pack(">I", 2))
    return box(b"ftyp", brand + bytes(4) + brand) + box(b"moov", header) + box(b"mdat", bytes(16))


def text_pdf(*pages: str) -> bytes:
    """A PDF with a line of text on each page."""
    numbers = range(4, 4 + 2 * len(pages), 2)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{' '.join(f'{n} 0 R' for n in numbers)}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in zip(numbers, pages, strict=True):
        content = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
        font = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 500 200]"
        objects += [
            f"<< /Type /Page /Parent 2 0 R {font} /Contents {number + 1} 0 R >>".encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        ]
    data, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(data))
    return data + head + table + trailer


def pdf(pages: int) -> bytes:
    from pypdf import PdfWriter

    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(72, 72)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()
