"""The worker says that it refuses records, without a line for each."""

import logging

import pytest

from stream.worker.refusals import RefusalLog


def test_the_first_and_every_tenfold_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By reason, over all partitions; nothing is said twice, also where a partition leaves and comes back."""
    log, seen = RefusalLog(), []
    with caplog.at_level(logging.WARNING, "hstu.worker"):
        for counts in ([{}], [{"late": 1}], [{"late": 4}, {"late": 5}], [{"late": 1}], [{"late": 5}, {"late": 5}]):
            log.log(counts)
            seen.append(len(caplog.messages))
        log.log([{"late": 99, "future": 250}])
        log.log([{"late": 99, "future": 999}])
        log.log([{"late": 100, "future": 999}])
    assert seen == [0, 1, 1, 1, 2]
    assert [message.split(" and ")[0] for message in caplog.messages] == [
        "1 record was refused as late",
        "10 records were refused as late",
        "250 records were refused as future",
        "100 records were refused as late",
    ]
