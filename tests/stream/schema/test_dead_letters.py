"""Refused records: the headers that say why."""

from dataclasses import replace

from stream.schema.dead_letters import DeadLetter, Reason, RefusedError

LETTER = DeadLetter(Reason.LATE, "ts 1 lies 5 ms behind the watermark.", "t-actions", 3, 2**40, b"k", b"v")


def test_the_headers_name_reason_and_place() -> None:
    """As UTF-8 text, each name once, in the documented order; numbers are whole whatever their size."""
    assert LETTER.headers() == [
        ("reason", b"late"),
        ("detail", b"ts 1 lies 5 ms behind the watermark."),
        ("topic", b"t-actions"),
        ("partition", b"3"),
        ("offset", b"1099511627776"),
        ("id", b"t-actions/3/1099511627776"),
    ]


def test_a_detail_that_is_no_text_still_has_headers() -> None:
    """A lone surrogate, which a refused record may quote, must not stop the worker that refuses it."""
    headers = dict(replace(LETTER, detail="user \ud800å").headers())
    assert headers["detail"].decode() == "user ?å"


def test_a_refusal_reads_as_its_reason_and_detail() -> None:
    """Both are at hand for the dead-letter and for the log."""
    refused = RefusedError(Reason.NOT_JSON, "no JSON at byte 3")
    assert str(refused) == "not-json: no JSON at byte 3"
    assert (refused.reason, refused.detail) == (Reason.NOT_JSON, "no JSON at byte 3")


def test_reasons_are_the_labels_of_a_metric() -> None:
    """Each differs from the others and is lower case with hyphens, as dashboards have it."""
    names = [reason.value for reason in Reason]
    assert len(set(names)) == len(names)
    assert [reason for reason in Reason if reason.value != reason.name.lower().replace("_", "-")] == []
