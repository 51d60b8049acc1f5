import pytest

from model.serving.request_time import event_time_ms
from model.trainer.merge import BEGINNING_MS
from stream.example import END_OF_TIME_MS
from tests.served import HISTORY, NOW_MS, answerer, snapshot_of


@pytest.mark.parametrize(
    ("watermark_ms", "expected_ms"),
    [
        (NOW_MS - 60_000, NOW_MS + 10_000),
        (NOW_MS - 86_400_001, NOW_MS - 86_400_001 + 10_000),
        (900_000_000_000, 900_000_010_000),
        (END_OF_TIME_MS - 30_000, 77),
        (BEGINNING_MS, 0),
    ],
    ids=["live", "just replayed", "replayed", "log ended", "nothing seen"],
)
def test_now_is_the_wall_clock_or_the_replayed_logs(watermark_ms: int, expected_ms: int) -> None:
    """A replayed log's time continues from its snapshot or stops at its end; never before the user's last token."""
    manifest = snapshot_of({}, watermark_ms=watermark_ms).manifest
    assert event_time_ms(manifest, NOW_MS / 1000 + 10, learned_ms=77) == expected_ms
    answer = answerer(watermark_ms=watermark_ms).topk("ada", 1)
    assert answer.now_ms == max(NOW_MS if expected_ms == 77 else expected_ms, int(HISTORY["ts_ms"].max()))
    assert answerer(watermark_ms=watermark_ms).topk("ada", 1, 5).now_ms == 5


def test_a_log_that_has_ended_stands_at_its_last_example() -> None:
    """Also where no user's token tells the time."""
    assert answerer(watermark_ms=END_OF_TIME_MS - 30_000).topk("nobody", 1).now_ms == NOW_MS
