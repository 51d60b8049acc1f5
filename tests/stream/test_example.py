import numpy as np
import pytest
from hypothesis import given, strategies as st

from stream.errors import FormatError
from stream.example import (
    END_OF_TIME_MS,
    Example,
    Heartbeat,
    decode,
    encode_example,
    encode_heartbeat,
)

u64, i64, u32 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Any columns that fit together."""
    n, x = draw(st.integers(0, 9)), draw(st.integers(0, 4))
    t = draw(st.integers(0, 4 if n else 0))
    counts = draw(st.lists(st.integers(0, 3), min_size=t, max_size=t))

    def column(values: st.SearchStrategy[int], size: int, dtype: str) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=size, max_size=size)), dtype)

    return Example(
        *(draw(u32), draw(u64), draw(i64), draw(u64), draw(u64)),
        *(column(u64, n, "<u8"), column(u64, n, "<u8"), column(i64, n, "<i8"), column(st.integers(0, 2), n, "u1")),
        *(
            column(st.integers(0, max(n - 1, 0)), t, "<i4"),
            column(st.integers(-1, max(n - 1, 0)), t, "<i4"),
            column(u32, t, "<u4"),
        ),
        *(column(i64, t, "<i8"), np.cumsum([0, *counts]).astype("<u4"), column(u64, sum(counts), "<u8")),
        *(column(u64, x, "<u8"), tuple(draw(st.lists(st.text(max_size=5), min_size=x, max_size=x)))),
    )


def same(a: Example, b: Example) -> bool:
    """Compare every field, dtypes included."""
    pairs = [(getattr(a, name), getattr(b, name)) for name in Example.__slots__]
    return all(x.dtype == y.dtype and np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y for x, y in pairs)


@given(examples())
def test_an_example_round_trips(example: Example) -> None:
    """Every column comes back with its dtype; encoding again gives the same bytes."""
    message = encode_example(example)
    decoded = decode(message)
    assert isinstance(decoded, Example)
    assert same(decoded, example)
    assert encode_example(decoded) == message


@given(examples())
def test_decoding_copies_no_column(example: Example) -> None:
    """Each column is a read-only view into the message, aligned for its dtype."""
    decoded = decode(encode_example(example))
    assert isinstance(decoded, Example)
    for name in ("keys", "actions", "ts_ms", "kinds", "positions", "queries", "labels", "label_offsets"):
        column = getattr(decoded, name)
        assert not column.flags.owndata
        assert not column.flags.writeable
        assert column.flags.aligned


@given(
    st.builds(
        Heartbeat,
        u32,
        st.integers(-(2**63), END_OF_TIME_MS),
        u64,
        st.binary(min_size=16, max_size=16),
    )
)
def test_a_heartbeat_round_trips(beat: Heartbeat) -> None:
    """All its fields come back."""
    assert decode(encode_heartbeat(beat)) == beat


@given(examples(), st.data())
def test_a_truncated_message_is_refused(example: Example, data: st.DataObject) -> None:
    """Cut anywhere, or followed by a byte, it is an error with a sentence."""
    message = encode_example(example)
    with pytest.raises(FormatError):
        decode(message[: data.draw(st.integers(0, len(message) - 1))])
    with pytest.raises(FormatError, match="truncated or damaged"):
        decode(message + b"\0")


def test_foreign_and_newer_messages_are_refused() -> None:
    """The sentence tells what was found and what to do."""
    with pytest.raises(FormatError, match=r"starts with b'\{\"us'.*no example of hstu-stream"):
        decode(b'{"user_id": 1}')
    with pytest.raises(FormatError, match=r"version 1, type 1.*knows version 2.*under another stream.topic_prefix"):
        decode(b"HSTE\x01\x00\x01\x00" + bytes(60))
    with pytest.raises(FormatError, match="truncated"):
        decode(encode_heartbeat(Heartbeat(0, 1))[:-1])
