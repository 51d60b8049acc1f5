import pytest
from hypothesis import given, strategies as st
from kafka.partitioner.default import murmur2

from stream.schema.ids import id_key, id_text, partition_of


def test_ids_of_either_json_type_have_one_key() -> None:
    """42 and "42" are one id, "042" is another; the key is xxh3_64 of the text."""
    assert id_text(42) == id_text("42") == "42"
    assert id_key("042") != id_key("42")
    assert id_key("") == 0x2D06800538D394C2  # published value of XXH3_64bits of nothing


@given(st.binary(max_size=40), st.integers(1, 50))
def test_users_live_where_kafkas_partitioner_puts_them(key: bytes, partitions: int) -> None:
    """The same murmur2 as in the clients."""
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(("key", "partition"), [(b"user-1", 0), (b"", 1), (b"\xc3\xa5", 2)])
def test_homes_never_move(key: bytes, partition: int) -> None:
    """Pinned: a change would move every user away from their sequence."""
    assert partition_of(key, 4) == partition
