"""A closed loop: users are shown the contestant's own top k, and it learns only from the clicks on that.

    world asks ─► contestant: top k for each user's sequence as it is ─► world answers ─► joiner ─► contestant learns

Each contestant makes its own stream, so ranks do not compare. Regret does: by the world's own law, the expected clicks
of the best possible slate less those of the slate shown. The last EXPLORED places of a slate are filled by the logging
policy, since an item that is never shown is never learned about. A user without a sequence, or for whom the contestant
has no candidate, is shown the policy's slate. The contestant `policy` leaves all places to it.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.config import ModelSettings, TrainSettings
from model.trainer.inbox import Inbox
from sim.experiment.contestants import NEURAL, make, title_of
from sim.experiment.hundredths import BUCKETS, late_from
from sim.experiment.run import RunSpec, StoppedError
from sim.experiment.streams import Stream
from sim.replay.in_process_join import InProcessJoin
from sim.sources.source import SourceEvent, heartbeats
from sim.world.closed_loop import RequestBlock
from stream.example import Example, id_key
from stream.schema.tokens import END_OF_TIME_MS
from stream.schema.topics import ITEMS

EXPLORED: Final = 1
POLICY: Final = "policy"


class ClosedRun:
    """One contestant in one world.

    Args:
        spec: What to run.
        stream: A closed loop.
        progress: Called with the number of blocks done and in all.
        stopping: Returns whether to stop; a closed loop that was stopped starts again.
    """

    def __init__(
        self,
        spec: RunSpec,
        stream: Stream,
        progress: Callable[[int, int], None] = lambda done, blocks: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        assert stream.scenario is not None
        self._spec, self._loop = spec, stream.scenario.loop()
        self._progress, self._stopping = progress, stopping
        self._stream = stream.settings.model_copy(update={"partitions": 1})
        self._train = TrainSettings(**(spec.train | {"seed": spec.seed}))
        self._batch: list[Example] = []
        self._inbox = Inbox(1, 1)
        self._tokens = self._examples = self._dead_letters = 0
        policy = spec.contestant == POLICY
        self.contestant = None if policy else make(spec.contestant, ModelSettings(**spec.model), self._train)

    def run(self) -> dict[str, Any]:
        """Run to the end; return the row of runs.parquet without `run`, and the rows of curves.parquet as `curves`.

        Raises:
            StoppedError: The function `stopping` returned true.
        """
        start_s, cpu_s = time.monotonic(), time.process_time()
        regret, clicks = [], []
        with tempfile.TemporaryDirectory(prefix="hstu-compare-") as folder:
            joining = InProcessJoin(Path(folder), self._stream, self._inbox.offer)
            first = [
                SourceEvent(ITEMS, key.encode(), value, self._loop.first_ms) for key, value in self._loop.catalogue
            ]
            joining.feed(first)
            for done, block in enumerate(self._loop.blocks(), 1):
                slates = self._slates(joining, block)
                events = block.answer(slates)
                regret.append(block.regret)
                clicks.append(block.expected)
                joining.feed([*events, *heartbeats(int(block.ts_ms[-1]), 1)])
                self._learn()
                self._progress(done, len(self._loop))
                if self._stopping():
                    raise StoppedError
            joining.feed(heartbeats(END_OF_TIME_MS, 1))
            self._learn()
            self._dead_letters = sum(joining.refused().values())
            joining.close()
        return self._result(np.concatenate(regret), time.monotonic() - start_s, time.process_time() - cpu_s)

    def _slates(self, joining: InProcessJoin, block: RequestBlock) -> list[list[str]]:
        """Return the items to show to each user, without those withdrawn since the last learned record."""
        slates: list[list[str]] = [[] for _ in block.users]
        if self.contestant is None:
            return slates
        asked, places = [], []
        for place, (user, at_ms) in enumerate(zip(block.users, block.ts_ms.tolist(), strict=True)):
            tokens = joining.tokens(user, self._stream.example_tokens)
            if tokens is not None and len(tokens):
                asked.append(_question(user, tokens, at_ms))
                places.append(place)
        if asked:
            live, size = set(block.live), self._loop.size
            for place, best in zip(places, self.contestant.recommend(asked, 2 * size), strict=True):
                slates[place] = [text for text in best if text in live][: size - EXPLORED]
        return slates

    def _learn(self) -> None:
        """Learn the examples and item records that are final now; nothing is tested."""
        while (placed := self._inbox.merge.pop()) is not None:
            if self.contestant is None:
                continue
            if placed.topic == ITEMS:
                self.contestant.learn_items([placed.value[0]])
                continue
            self._batch.append(placed.value[0])
            self._tokens += len(placed.value[0].keys)
            self._examples += 1
            if len(self._batch) == self._train.batch_examples:
                self.contestant.step(self._batch, test=False, learn=True)
                self._batch = []

    def _result(self, regret_R: NDArray[np.float64], wall_s: float, cpu_s: float) -> dict[str, Any]:
        spec, contestant = self._spec, self.contestant
        kind = "neural" if spec.contestant in NEURAL else "baseline"
        late = regret_R[len(regret_R) * late_from(spec.late_share) // BUCKETS :]
        return {
            "contestant": spec.contestant,
            "variant": spec.variant,
            "seed": spec.seed,
            "kind": kind,
            "title": title_of(spec.contestant) if contestant else "the logging policy",
            "settings": spec.text,
            "late_share": spec.late_share,
            "dead_letters": self._dead_letters,
            "model_digest": contestant.digest() if contestant else "",
            "examples": self._examples,
            "tokens": self._tokens,
            "parameters": contestant.parameters if contestant else 0,
            "train_s": cpu_s,
            "wall_s": wall_s,
            "regret": float(regret_R.mean()),
            "late_regret": float(late.mean()),
            "curves": [
                {"bucket": bucket, "age": "all", "targets": len(part), "regret": float(part.sum())}
                for bucket, part in enumerate(np.array_split(regret_R, BUCKETS))
                if len(part)
            ],
        }


def _question(user: str, tokens: NDArray[np.void], at_ms: int) -> Example:
    """Return an example whose single target asks for the item after the last token; it is not learned from."""
    last = np.array([len(tokens) - 1], np.int32)
    columns = {name: np.ascontiguousarray(tokens[name]) for name in ("action", "key", "kind", "ts_ms")}
    return Example(
        *(0, 0, at_ms, id_key(user), 0),
        keys=columns["key"],
        actions=columns["action"],
        ts_ms=columns["ts_ms"],
        kinds=columns["kind"],
        positions=last,
        queries=last,
        requests=np.ones(1, np.uint32),
        request_ms=np.array([at_ms], np.int64),
        label_offsets=np.array([0, 1], np.uint32),
        labels=np.array([id_key("click")], np.uint64),
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )
