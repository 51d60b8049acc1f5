"""Answers of other processes: whatever they send, how slowly or how much, the one who asks goes on in time."""

import time

import pytest

from stream.fetch import Answer, FetchError, fetch
from tests.odd_server import Way, answering

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
TIME_S = 0.3


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 4\r\n\r\nfour",
        HEAD + b"\r\nfour",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nfo\r\n2\r\nur\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 4\r\n\r\nfour",
    ],
)
def test_a_whole_answer_within_the_bounds(answer: bytes) -> None:
    """By a length, up to the end, or in chunks."""
    with answering(answer) as (url, requests):
        assert fetch(url + "/a?b=c", timeout_s=5, most_bytes=4) == Answer(200, "text/plain", b"four")
        assert fetch(url, timeout_s=5, most_bytes=4, body=b"{}", headers={"X-One": "1"}).body == b"four"
    get, post = requests
    assert get.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert post.startswith(b"POST / HTTP/1.1\r\n")
    assert b"X-One: 1\r\n" in post
    assert b"Content-Length: 2\r\n" in post


@pytest.mark.parametrize(
    ("answer", "way", "why"),
    [
        (HEAD + b"X: " + b"x" * 500, "trickling", "timed out"),
        (HEAD + b"Content-Length: 500\r\n\r\n" + b"x" * 500, "trickling", "timed out"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100, "trickling", "timed out"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 99, "trickling", "timed out"),
        (HEAD + b"\r\nx", "endless", "more than 100,000 bytes"),
        (HEAD + b"Content-Length: 100001\r\n\r\n" + b"x" * 100_001, "at once", "more than 100,000 bytes"),
        (HEAD + b"X: x", "endless", "LineTooLong"),
        (HEAD + b"Content-Length: 9\r\n\r\nx", "at once", "IncompleteRead"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nx", "at once", "IncompleteRead"),
        (b"SSH-2.0-\x1b[31mred\r\n", "at once", "BadStatusLine"),
        (b"", "at once", "RemoteDisconnected"),
    ],
)
def test_an_answer_beyond_the_bounds_is_given_up(answer: bytes, way: Way, why: str) -> None:
    """The time counts from the connection to the last byte, and the reason can be printed."""
    with answering(answer, way) as (url, _):
        began_s = time.monotonic()
        with pytest.raises(FetchError, match=why) as refused:
            fetch(url, timeout_s=TIME_S, most_bytes=100_000)
        assert time.monotonic() - began_s < TIME_S + 1
        assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "h:1", "//h", "file:///etc", "ftp://h", "http://", "http://a b", "http://h:99999"])
def test_what_is_no_address_is_named(url: str) -> None:
    """Nothing but HTTP is opened."""
    with pytest.raises(FetchError):
        fetch(url, timeout_s=1, most_bytes=1)
