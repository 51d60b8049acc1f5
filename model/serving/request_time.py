"""The event time at which a query is asked: the wall clock's, or that of a replayed log."""

from model.data.event_time import DAY_MS, is_end
from model.storage.snapshot import Manifest


def event_time_ms(manifest: Manifest, wall_s: float, learned_ms: int = 0) -> int:
    """Return the present event time: the wall clock's, or, for a replayed log, the time to which the log has come.

    A snapshot whose watermark lay more than a day behind the clock when it was made counts as one of a replayed log,
    whose time goes on from there. Where the log has ended, its time stands still at `learned_ms`.

    Args:
        manifest: Manifest of the snapshot that answers.
        wall_s: Wall time in seconds since 1970.
        learned_ms: Event time of the last example that the snapshot was trained on.
    """
    if is_end(manifest.watermark_ms):
        return learned_ms
    if is_live(manifest):
        return round(1000 * wall_s)
    return max(0, manifest.watermark_ms + max(0, round(1000 * wall_s) - _made_ms(manifest)))


def is_live(manifest: Manifest) -> bool:
    """Return whether the clock tells the event time of a snapshot's log: it is neither replayed nor ended."""
    return not is_end(manifest.watermark_ms) and _made_ms(manifest) - manifest.watermark_ms <= DAY_MS


def _made_ms(manifest: Manifest) -> int:
    return round(1000 * manifest.created)
