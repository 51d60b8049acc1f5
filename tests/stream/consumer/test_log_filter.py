import logging

from stream.consumer.log_filter import News


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "file", 1, message, None, None)


def test_others_say_a_thing_once_in_a_while() -> None:
    """A client that complains of each attempt is heard once in half a minute; another complaint is heard at once."""
    now = [0.0]
    news = News(lambda: now[0])
    shown = [news.filter(record("aiokafka", "Unable to connect")) for now[0] in range(61)]
    assert [second for second, yes in enumerate(shown) if yes] == [0, 30, 60]
    assert news.filter(record("aiokafka.conn", "Something else"))


def test_what_is_ordinary_is_not_said_and_our_own_always_is() -> None:
    """A group that changes is no news; what we say ourselves is never held back."""
    news = News()
    ordinary = "Heartbeat failed for group g because it is rebalancing"
    assert not news.filter(record("aiokafka.consumer.group_coordinator", ordinary))
    assert [news.filter(record("hstu.worker", "Partition 1 is ours")) for _ in range(3)] == [True] * 3
