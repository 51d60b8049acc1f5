"""Kafka's log is known again by the last record read."""

from dataclasses import replace
from typing import Any

import pytest

from stream.consumer.read_log import ReadLog
from stream.errors import BrokerError
from stream.example import fingerprint
from tests.wire import Record

LOG = [Record(offset, b"value %d" % offset, b"key", 1000 + offset) for offset in range(5)]


@pytest.mark.parametrize("change", [{"value": b"v"}, {"value": None}, {"key": None}, {"key": b"k"}, {"timestamp": 1}])
def test_another_record_at_the_last_offset_is_refused(change: dict[str, Any]) -> None:
    """By its key, its value and its timestamp; the same one is not, and neither is one that nobody remembers."""
    log = ReadLog("t", 3, None, b"")
    log.note(LOG)
    log.note(LOG[:2])  # read once more
    assert log.offset == 4
    again = ReadLog("t", 3, log.offset, log.digest)
    again.refuse_other(LOG[4])
    again.refuse_other(replace(LOG[3], **change))
    with pytest.raises(BrokerError, match=r"t\[3\] holds another record at offset 4 .*docs/recovery.md"):
        again.refuse_other(replace(LOG[4], **change))


def test_parts_of_a_record_do_not_run_into_each_other() -> None:
    """What moves from the key to the value is another record, and so is an absent part beside an empty one."""
    record = Record(0, b"bc", b"a", 1)
    others = [
        Record(0, b"c", b"ab", 1),
        Record(0, b"abc", None, 1),
        Record(0, b"abc", b"", 1),
        Record(0, b"bc", b"a", 2),
    ]
    assert len({fingerprint(each) for each in [record, *others]}) == 5
