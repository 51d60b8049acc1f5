"""What a run reports: counts, metrics, digests and speed, for the live table, metrics.jsonl, snapshots and Prometheus.

Counts and metrics are equal for equal runs at the same step; so are the digests. The speed, and how much is read and
not yet trained on, belong to this process alone.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from xxhash import xxh3_128_digest

from model.drift.watch import Alarm
from model.keys.lives import AGE, COUNTS
from model.learning.learner import Learner, StepReport
from model.trainer.inbox import Inbox
from model.trainer.merge import Merge
from stream.example import content

_RATE_S: Final = 10.0  # over which tokens per second are averaged


class TokenRate:
    """Tokens trained on per second, over the last ten seconds.

    Args:
        now: A clock in seconds that never goes back.
        tokens: Tokens trained on so far.
    """

    def __init__(self, now: Callable[[], float], tokens: int) -> None:
        self._now = now
        self._counts: deque[tuple[float, int]] = deque([(now(), tokens)])

    def add(self, tokens: int) -> None:
        """Take the number of tokens trained on so far."""
        self._counts.append((self._now(), tokens))

    @property
    def per_s(self) -> float:
        """The rate; 0 after ten seconds without tokens."""
        now_s = self.trim()
        (start_s, start), (_, end) = self._counts[0], self._counts[-1]
        return (end - start) / (now_s - start_s) if now_s > start_s else 0.0

    def trim(self) -> float:
        """Drop the counts older than ten seconds except the last, from which the rate is measured; return the time."""
        now_s = self._now()
        while len(self._counts) > 1 and self._counts[1][0] <= now_s - _RATE_S:
            self._counts.popleft()
        if len(self._counts) == 1:  # no tokens since
            then_s, tokens = self._counts[0]
            self._counts[0] = max(then_s, now_s - _RATE_S), tokens
        return now_s


class RunReport:
    """The figures of one run.

    Args:
        name: Name of the trainer.
        learner: The learner, already restored from the checkpoint if there is one.
        inbox: What is read.
        now: Wall time in seconds since 1970.
        clock: A clock in seconds that never goes back.
        facts: The facts of the checkpoint; None at the beginning.
    """

    def __init__(
        self,
        name: str,
        learner: Learner,
        inbox: Inbox,
        now: Callable[[], float],
        clock: Callable[[], float],
        facts: Mapping[str, Any] | None,
    ) -> None:
        self._name, self._learner, self._inbox, self._now = name, learner, inbox, now
        facts = facts or {}
        self._examples_digest = bytes.fromhex(facts.get("examples_digest", "00" * 16))
        self.event_ms: int = facts.get("event_ms", 0)  # when the last example trained on became final
        self._loss: float | None = facts.get("loss")
        self._lookups, self._hits = facts.get("lookups", 0), facts.get("hits", 0)
        self._weights_from: dict[str, Any] | None = facts.get("weights_from")
        self.rate = TokenRate(clock, learner.counts["tokens"])

    def note(self, step: StepReport, messages: Iterable[bytes]) -> None:
        """Take the report of a step and the messages of its examples in their order."""
        self.event_ms = step.event_ms
        self._loss = step.loss if np.isfinite(step.loss) else None
        self._lookups, self._hits = self._lookups + step.lookups, self._hits + step.hits
        self.rate.add(self._learner.counts["tokens"])
        for message in messages:
            self._examples_digest = xxh3_128_digest(self._examples_digest + content(message))

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this."""
        return {
            "examples_digest": self._examples_digest.hex(),
            "event_ms": self.event_ms,
            "loss": self._loss,
            "lookups": self._lookups,
            "hits": self._hits,
            "weights_from": self._weights_from,
        }

    @property
    def targets(self) -> int:
        """Number of targets tested, by which the windows of metrics.jsonl are counted."""
        return self._learner.targets

    @property
    def hold(self) -> str:
        """Why the gate is to hold a snapshot of this moment: a drift (train.drift_hold_targets); empty: it is not."""
        most, recovery = self._learner.train.drift_hold_targets, self._learner.drift.recovery
        if recovery.before is None or self.targets - recovery.targets >= most:
            return ""
        late = "unknown" if recovery.of_late is None else f"{1 - recovery.of_late:.3f}"
        found = f"HR@10 {late} since, {1 - recovery.before.mean:.3f} before"
        return f"{recovery.signal} rose at target {recovery.targets:,}, and the model has not recovered: {found}"

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the sequences (as workers report them), of the examples in their order, and of the model; hex."""
        return {
            "sequences": self._inbox.sequences_digest,
            "examples": self._examples_digest.hex(),
            "model": self._learner.digest(),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return counts and metrics of the run, and how far this process has read, for JSON."""
        inbox, merge = self._inbox, self._inbox.merge
        return {
            **self._learned(),
            "tokens_per_s": self.rate.per_s,
            "sequence_tokens": inbox.tokens,
            "watermark_ms": inbox.learned_ms,
            "waiting": inbox.waiting,
            "late": merge.late,
            "repeats": merge.repeats,
            "refused": inbox.refused,
            "passed_over": inbox.passed_over,
            "waits_for": _waits_for(merge),
        }

    def line(self, alarms: Sequence[Alarm] = ()) -> dict[str, Any]:
        """Return a line of metrics.jsonl; all but the first two entries are equal for equal runs.

        Args:
            alarms: The alarms of drift of the last step.
        """
        drift = [asdict(alarm) for alarm in alarms]
        return {"wall_s": self._now(), "tokens_per_s": self.rate.per_s, **self._learned(), "drift": drift}

    def _learned(self) -> dict[str, Any]:
        """Return what equal runs have equal at the same step."""
        learner = self._learner
        return {
            "name": self._name,
            "step": learner.counts["steps"],
            "weights_from": self._weights_from,
            "examples": learner.counts["examples"],
            "tokens": learner.counts["tokens"],
            "targets": learner.metrics.targets,
            "rank_targets": learner.metrics.rank_targets,
            "event_ms": self.event_ms,
            "loss": self._loss,
            "items": learner.items.known,
            "lookups": self._lookups,
            "hits": self._hits,
            **_lives(learner),
            "withdrawn": int(learner.items.withdrawn.sum()),
            "features": len(learner.features),
            "collisions": learner.items.collisions + learner.features.collisions,
            "drift_alarms": dict(learner.drift.counts),
            "drift_recovering": learner.drift.recovery.waiting,
            "drift_boost_left": learner.boost.left,
            **learner.metrics.as_dict(),
        }


def _lives(learner: Learner) -> dict[str, Any]:
    """Return how many items have come and gone, how many rows they take, and how many they may take (0: any number)."""
    lives, items = learner.index.lives, learner.items
    counts = lives.counts if lives else dict.fromkeys(COUNTS, 0) | {"born": items.known}
    rows = {"item_rows": len(items), "without_text": items.without_text, "max_items": learner.train.max_items}
    return {**rows, **{name: counts[name] for name in COUNTS[:-1]}, "dead_age_s": counts[AGE] / 1000}


def _waits_for(merge: Merge) -> dict[str, Any] | None:
    """Return the partition that holds up what is read, and how far it has come; None while nothing is held up."""
    queue = merge.waits_for
    if queue is None:
        return None
    return {"topic": queue.topic, "partition": queue.partition, "clock_ms": queue.clock_ms}
