"""The manifest of a backup: what is read is what was written, and nothing else is taken for one."""

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from xxhash import xxh3_128_hexdigest

from stream.backup.manifest import File, Manifest, decode_manifest, encode_manifest
from stream.errors import DamagedError, FormatError
from stream.store.layout import LogState

count = st.integers(0, 2**40)
files = st.lists(st.builds(File, name=st.text(), stored=st.text(), bytes=count, xxh3=st.text()))
manifests = st.builds(
    Manifest,
    version=st.just(2),
    partition=count,
    partitions=count,
    cluster=st.text(),
    epoch=st.text(),
    made_ms=count,
    made_by=st.text(),
    offsets=st.lists(count),
    logs=st.lists(st.builds(LogState, offset=st.none() | count, digest=st.binary(), replayed=st.booleans())),
    serial=count,
    watermark_ms=st.integers(-(2**50), 2**50),
    digest=st.text(),
    files=files,
)


@settings(max_examples=30)
@given(manifests)
def test_what_is_written_is_read(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest), "b") == manifest


@settings(max_examples=30)
@given(manifests, st.data())
def test_a_manifest_that_is_cut_off_or_edited_is_damaged(manifest: Manifest, data: st.DataObject) -> None:
    """Wherever it is cut, and whichever byte is another."""
    whole = encode_manifest(manifest)
    with pytest.raises(DamagedError, match="The backup b is damaged or half written"):
        decode_manifest(whole[: data.draw(st.integers(0, len(whole) - 1))], "b")
    at, other = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(DamagedError):
        decode_manifest(whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :], "b")


def test_another_version_is_refused() -> None:
    """The sentence names both."""
    line = msgspec.json.encode({"version": 3, "what": "ever"})
    data = line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n"
    with pytest.raises(FormatError, match=r"The backup b is of version 3; this hstu-stream reads 2: .* version"):
        decode_manifest(data, "b")


@pytest.mark.parametrize("line", [b"", b"[]", b'{"version":2}', b'{"version":"1"}'])
def test_what_is_no_manifest_under_its_own_digest_is_damaged(line: bytes) -> None:
    """Written by something else, or by hand: passed over as any damaged one."""
    with pytest.raises(DamagedError, match="The backup b is damaged: its manifest"):
        decode_manifest(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n", "b")
