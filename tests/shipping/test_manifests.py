"""Manifests and bundles that somebody has forged or damaged: a typed error, before anything is read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlstore.errors import CorruptStore, FormatTooNew
from mrlstore.shipping import page_bundles
from mrlstore.shipping.manifest import (
    PageBundle,
    ShippedFile,
    ShippedPart,
    SnapshotManifest,
    decoded,
)

PART = "0123456789abcdef" * 2
MANIFEST = SnapshotManifest(
    epoch=3,
    place=9,
    store_uuid="f" * 32,
    generation=9,
    rows=1,
    taken="2026-01-01T00:00:00.000+00:00",
    page_bytes=8192,
    pages=4,
    bundles=(PageBundle(f"catalogue/0000000001-{PART}-" + "a" * 40, 4, 40_000),),
    parts=(ShippedPart(PART, f"parts/0000000003-{PART}", (ShippedFile("keys.npy", 128),), "b" * 64),),
)


def forged(change: Any) -> bytes:
    """The manifest with a change, and a checksum that fits."""
    body = json.loads(MANIFEST.encoded())["manifest"]
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return f'{{"blake2b":"{digest}","manifest":{text}}}'.encode()


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert decoded(MANIFEST.encoded(), "here") == MANIFEST
    assert decoded(forged(lambda body: None), "here") == MANIFEST


FORGERIES: dict[str, Any] = {
    "a part that leads upward": lambda body: body["parts"][0].update(name="../../etc"),
    "a file that leads upward": lambda body: body["parts"][0].update(files=[["../x.npy", 1]]),
    "an absolute file": lambda body: body["parts"][0].update(files=[["/x.npy", 1]]),
    "a bundle named as a folder above": lambda body: body["bundles"][0].update(object="catalogue/.."),
    "another folder": lambda body: body["parts"][0].update(object="epochs/0000000001"),
    "more pages than there are": lambda body: body.update(pages=2**40),
    "more pages than the bundle is long": lambda body: body["bundles"][0].update(pages=2**40),
    "pages below 0": lambda body: body.update(pages=-1),
    "no number": lambda body: body.update(generation="9"),
    "odd pages": lambda body: body.update(page_bytes=1000),
    "another field": lambda body: body.update(more=1),
    "a field less": lambda body: body.pop("rows"),
    "no list": lambda body: body.update(parts=7),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_manifest_is_refused(name: str) -> None:
    with pytest.raises(CorruptStore):
        decoded(forged(FORGERIES[name]), "here")


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(FormatTooNew):
        decoded(forged(lambda body: body.update(format=2)), "here")


@given(st.data())
def test_any_damage_is_found(data: st.DataObject) -> None:
    whole = MANIFEST.encoded()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytes([*whole[:place], data.draw(st.integers(0, 255)), *whole[place + 1 :]])
    cut = data.draw(st.sampled_from([damaged, whole[:place], b"", b"[" * 100_000, b"\xff"]))
    if cut != whole:
        with pytest.raises((CorruptStore, FormatTooNew)):
            decoded(cut, "here")


@given(st.binary(max_size=200), st.integers(0, 5))
def test_bytes_that_are_no_bundle(data: bytes, pages: int) -> None:
    with pytest.raises(CorruptStore):
        page_bundles.table_of(memoryview(data), PageBundle("catalogue/x", pages, len(data)), 512)


def test_a_bundle_is_read_as_it_was_written() -> None:
    pages = np.random.default_rng(1).integers(0, 256, 512 * 10, dtype=np.uint8).tobytes()
    digests = page_bundles.page_digests(memoryview(pages), 512)
    numbers = np.array([2, 5, 9])
    data = page_bundles.encoded(numbers, digests, memoryview(pages), 512)
    bundle = PageBundle(f"catalogue/0000000001-{page_bundles.content_name(data)}", 3, len(data))
    page_bundles.check_bundle(data, bundle)
    table = page_bundles.table_of(memoryview(data), bundle, 512)
    assert table.numbers.tolist() == [2, 5, 9]
    assert data[table.start + 512 : table.start + 1024] == pages[5 * 512 : 6 * 512]
    for wrong in (data[:-1], data + b"x", data[:100] + b"x" + data[101:]):
        with pytest.raises(CorruptStore):
            page_bundles.check_bundle(wrong, bundle)
