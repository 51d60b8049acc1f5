"""Dead letters of a Kafka that answers, answers late, and not at all."""

import threading
from typing import Any

from model.dashboard.last_letters import LastLetters

LETTER = {"id": "impressions/0/7", "reason": "late", "detail": "", "ts_ms": 1}


def test_a_kafka_that_hangs_keeps_nobody_waiting() -> None:
    """Each look answers with what the last read has brought, and says why there is nothing newer."""
    now_s, gate, reads = [0.0], threading.Event(), list[int]()

    def read(count: int) -> list[dict[str, Any]]:
        reads.append(count)
        if len(reads) == 2:
            gate.wait(30)
            raise TimeoutError("a secret address")
        return [LETTER]

    letters = LastLetters(read, clock=lambda: now_s[0], patience_s=0.05)
    assert letters.look() == {"last": [LETTER], "problem": None}
    for now_s[0] in (11.0, 12.0, 40.0):  # one read at a time, however long it takes
        assert letters.look() == {"last": [LETTER], "problem": "Kafka has not answered yet."}
    assert len(reads) == 2
    gate.set()
    (thread,) = [one for one in threading.enumerate() if one.name == "dead letters"]
    thread.join()
    now_s[0] = 20.0
    assert letters.look() == {"last": [LETTER], "problem": "Kafka does not show them (TimeoutError)."}
    now_s[0] = 41.0
    assert letters.look() == {"last": [LETTER], "problem": None}


def test_without_kafka_nothing_is_read() -> None:
    """No problem is named where no Kafka is."""
    assert LastLetters(None).look() == {"last": None, "problem": None}
