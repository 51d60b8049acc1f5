"""One run: a contestant on a feed, tested before it learns, with checkpoints.

Where only a share of the stream is tested, it is every n-th micro-batch: the same ones for all contestants with
micro-batches of one size. A run that is resumed from a checkpoint ends with the same bits.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from xxhash import xxh3_64_hexdigest, xxh3_128_digest

from model.arrays.state import prefixed, under
from model.config import ModelSettings, TrainSettings
from model.storage.checkpoint import Checkpoint, read_newest, write_checkpoint
from sim.experiment.click_tallies import ClickTallies
from sim.experiment.contestants import NEURAL, Contestant, Tested, make, title_of
from sim.experiment.feeds import Feed, MicroBatch, Records, micro_batches
from sim.experiment.hundredths import BUCKETS, bucket_of, late_from
from sim.experiment.request_time import at_requests
from sim.experiment.tallies import Tallies
from stream.example import Example, content, encode_example

CHECKPOINT_S: Final = 120.0
Scalar = str | int | float | bool


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the result of a run."""

    scenario: str
    overrides: dict[str, Scalar] = {}
    """Changed keys of the scenario."""
    log: dict[str, Any] = {}
    """Files of a log as "log", and the flags of sim/log_flags.py; empty: it is a scenario or a data set."""
    world: str = ""
    """Digest of the scenario's settings, so that an edited file is another stream."""
    source: str = ""
    """Digest of the code that decides the figures (source_digest.py), so that edited code makes another run."""
    seed: int
    """Seed of the stream and of the model."""
    contestant: str
    variant: str = ""
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    stream: dict[str, Any] = {}
    score_at: Literal["label", "request"] = "label"
    test_share: float = 1.0
    late_share: float = 0.1
    """Share of the stream at its end whose targets are counted once more by themselves."""
    frozen: bool = True

    @property
    def id(self) -> str:
        """The run's name in files: contestant, seed, and a digest of all fields."""
        return f"{self.contestant}-{self.seed}-{xxh3_64_hexdigest(self.text.encode())}"

    @property
    def text(self) -> str:
        """All fields as JSON."""
        return msgspec.json.encode(self, order="sorted").decode()


class StoppedError(Exception):
    """The run was asked to stop and has written its checkpoint."""


class Run:
    """One contestant on one feed.

    Args:
        spec: What to run.
        feed: The examples and item records of its stream.
        folder: The folder for checkpoints; None: write none.
        progress: Called with the number of examples done and in all.
        stopping: Returns whether to stop.
    """

    def __init__(
        self,
        spec: RunSpec,
        feed: Feed,
        folder: Path | None = None,
        progress: Callable[[int, int], None] = lambda done, examples: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.spec, self._feed, self._folder = spec, feed, folder
        self._progress, self._stopping = progress, stopping
        self._train = TrainSettings(**(spec.train | {"seed": spec.seed}))
        model = ModelSettings(**spec.model)
        self.contestant: Contestant = make(spec.contestant, model, self._train)
        self._clicks = ClickTallies(model.rank_actions, late_from(spec.late_share))
        self._tallies = Tallies(feed.examples, late_from(spec.late_share))
        self._digest = bytes(16)
        self._done = self._tokens = self._batches = 0
        self._cpu_s = self._test_s = self._feed_s = 0.0
        self._freeze_at = -(-feed.examples * late_from(spec.late_share) // BUCKETS)
        self._asked = at_requests(feed, self._train.batch_examples) if spec.score_at == "request" else None

    def run(self) -> dict[str, Any]:
        """Run to the end; return the row of runs.parquet without `run`, and the rows of curves.parquet as `curves`.

        Raises:
            StoppedError: The function `stopping` returned true.
        """
        self._resume()
        start_s = saved_s = time.monotonic()
        cpu_s = self._cpu_s - time.process_time()
        batches = micro_batches(self._feed, self._train.batch_examples, self._done)
        while (entry := self._timed_next(batches)) is not None:
            if self.spec.frozen and self._done >= self._freeze_at and not self._tallies.has_frozen:
                self._test_frozen()
            self._step(*entry)
            self._progress(self._done, self._feed.examples)
            self._cpu_s = cpu_s + time.process_time()
            if self._stopping() or time.monotonic() - saved_s > CHECKPOINT_S:
                self._save()
                saved_s = time.monotonic()
                if self._stopping():
                    raise StoppedError
        return self._result(time.monotonic() - start_s)

    def _timed_next(self, batches: Iterator[MicroBatch]) -> MicroBatch | None:
        start_s = time.process_time()
        entry = next(batches, None)
        self._feed_s += time.process_time() - start_s
        return entry

    def _step(self, records: Records, batch: list[Example]) -> None:
        for tested in self._test(self.contestant, self._batches, records, batch, learn=True):
            self._tallies.count(self._done, tested)
            if tested.clicks is not None:
                self._clicks.count(bucket_of(self._done, self._feed.examples), tested.clicks)
        start_s = time.process_time()
        for example in batch:
            self._digest = xxh3_128_digest(self._digest + content(encode_example(example)))
            self._tokens += len(example.keys)
        self._feed_s += time.process_time() - start_s
        self._done += len(batch)
        self._batches += 1

    def _test(self, who: Contestant, number: int, records: Records, batch: list[Example], learn: bool) -> list[Tested]:
        """Take in a micro-batch; return the tests of its targets or, with score_at "request", of those asked before it.

        Questions are asked even where they are not tested: their ids are admitted, so the model's bits stay the same.
        """
        test = self._is_tested(number)
        if self._asked is None:
            who.learn_items(records)
            found = [who.step(batch, test=test, learn=learn)]
        else:
            found, learned = [], 0
            start_s = time.process_time() - who.test_s
            for count, asked in self._asked.get(number, []):
                who.learn_items(records[learned:count])
                learned = count
                found.append(who.step(asked, test=test, learn=False, count=False))
            self._test_s += time.process_time() - who.test_s - start_s
            who.learn_items(records[learned:])
            who.step(batch, test=False, learn=learn)
        return [tested for tested in found if tested is not None]

    def _is_tested(self, batch: int) -> bool:
        share = self.spec.test_share
        return int((batch + 1) * share) > int(batch * share)

    def _test_frozen(self) -> None:
        """Test the rest of the stream by the weights as they are."""
        start_s, before_s = time.process_time(), self._test_s
        frozen = self.contestant.frozen()
        rest = micro_batches(self._feed, self._train.batch_examples, self._done)
        for number, (records, batch) in enumerate(rest, self._batches):
            for tested in self._test(frozen, number, records, batch, learn=False):
                self._tallies.count_frozen(tested)
        self._test_s = before_s + time.process_time() - start_s
        self._tallies.has_frozen = True

    def _resume(self) -> None:
        checkpoint = read_newest(self._folder)[0] if self._folder is not None else None
        if checkpoint is None:
            return
        self.contestant.load_state(under("contestant.", checkpoint.arrays))
        self._tallies.load_state(under("book.", checkpoint.arrays))
        self._clicks.load_state(under("clicks.", checkpoint.arrays))
        facts = checkpoint.facts
        self._digest = bytes.fromhex(facts["digest"])
        self._done, self._tokens, self._batches = facts["done"], facts["tokens"], facts["batches"]
        self._cpu_s, self._test_s, self._feed_s = facts["cpu_s"], facts["test_s"], facts["feed_s"]

    def _save(self) -> None:
        state = self.contestant.state()
        if self._folder is None or state is None:
            return
        arrays = prefixed("contestant.", state) | prefixed("book.", self._tallies.state())
        arrays |= prefixed("clicks.", self._clicks.state())
        facts = {
            "digest": self._digest.hex(),
            "done": self._done,
            "tokens": self._tokens,
            "batches": self._batches,
            "cpu_s": self._cpu_s,
            "test_s": self._test_s + self.contestant.test_s,
            "feed_s": self._feed_s,
        }
        write_checkpoint(self._folder, Checkpoint(arrays, facts))

    def _result(self, wall_s: float) -> dict[str, Any]:
        spec, test_s = self.spec, self._test_s + self.contestant.test_s
        train_s = max(self._cpu_s - test_s - self._feed_s, 1e-9)
        return {
            "contestant": spec.contestant,
            "title": title_of(spec.contestant),
            "kind": "neural" if spec.contestant in NEURAL else "baseline",
            "variant": spec.variant,
            "seed": spec.seed,
            "settings": spec.text,
            "score_at": spec.score_at,
            "exclude_seen": self._train.exclude_seen,
            "late_share": spec.late_share,
            "dead_letters": self._feed.dead_letters,
            "examples_digest": self._digest.hex(),
            "model_digest": self.contestant.digest(),
            "examples": self._done,
            "tokens": self._tokens,
            "steps": self._batches,
            "parameters": self.contestant.parameters,
            "train_s": train_s,
            "test_s": test_s,
            "wall_s": wall_s,
            "tokens_per_s": self._tokens / train_s,
            **self._tallies.figures(),
            "curves": self._tallies.rows(),
            "clicks": self._clicks.rows(),
        }
