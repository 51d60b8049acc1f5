import logging

from stream.consumer.log_filter import News


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file", 1, message, None, None)


def test_libraries_repeat_a_warning_once_in_30_s() -> None:
    """A client that warns of each attempt is shown once in half a minute; another warning is shown at once."""
    now = [0.0]
    news = News(lambda: now[0])
    shown = [news.filter(record("aiokafka", "Unable to connect")) for now[0] in range(61)]
    assert [second for second, yes in enumerate(shown) if yes] == [0, 30, 60]
    assert news.filter(record("aiokafka.conn", "Something else"))


def test_ordinary_warnings_are_hidden_and_our_own_messages_never() -> None:
    """A group that rebalances is no news; our own loggers are never filtered."""
    news = News()
    ordinary = "Heartbeat failed for group g because it is rebalancing"
    assert not news.filter(record("aiokafka.consumer.group_coordinator", ordinary))
    assert not news.filter(record("mode.threads", "[^--ConsumerThread]: Thread keepalive is not responding..."))
    assert [news.filter(record("hstu.worker", "Partition 1 is ours")) for _ in range(3)] == [True] * 3
