"""The examples of a log, as the joiner makes them, in memory: many learners can be trained on the same ones."""

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from model.learner import Learner
from model.metrics import RetrievalTally
from model.prequential import MODEL
from sim.datasets import load_dataset
from sim.generator import DirichletSettings, DirichletStream, whole_records
from sim.log_settings import LogSettings
from sim.outgoing import Source, outgoing
from stream.config import StreamSettings
from stream.example import Example, decode
from stream.partition import EXAMPLES, Partition
from stream.store import open_store
from stream.watermark import Source as Topic

TOPICS = {topic.topic: topic for topic in Topic}


class Record(NamedTuple):
    """Quacks like a record of Kafka."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


def movielens(example_tokens: int, limit: int | None = None) -> list[Example]:
    """Give the examples of MovieLens-small as `hstu demo` replays it."""
    log = load_dataset("movielens", LogSettings(shuffle_ties=1, limit=limit))
    return examples_of(log, StreamSettings(example_tokens=example_tokens))


def dirichlet(settings: DirichletSettings) -> list[Example]:
    """Give the examples of the paper's synthetic stream, a record each."""
    return examples_of(DirichletStream(settings), whole_records(StreamSettings(), settings.length))


def examples_of(source: Source, settings: StreamSettings) -> list[Example]:
    """Join a source in one partition and give its examples in order."""
    settings = settings.model_copy(update={"partitions": 1, "future_s": 0, "idle_timeout_s": 0})
    offsets, found = dict.fromkeys(Topic, 0), []
    with tempfile.TemporaryDirectory() as folder:
        partition = Partition(open_store(Path(folder) / "p0"), 0, settings)
        events = (event for event in outgoing(source, 1) if event.topic in TOPICS)
        while batch := list(islice(events, 5000)):
            records: dict[Topic, list[Record]] = {topic: [] for topic in Topic}
            for event in batch:
                topic = TOPICS[event.topic]
                records[topic].append(Record(offsets[topic], event.key, event.value, event.ts_ms))
                offsets[topic] += 1
            for topic, own in records.items():
                partition.handle(topic, own)
            outbox = partition.outbox()
            found += [decode(out.value) for out in outbox if out.topic == EXAMPLES]
            if outbox:
                partition.sent(outbox[-1].number)
        partition.close()
    return [message for message in found if isinstance(message, Example)]


def learn(learner: Learner, examples: Sequence[Example]) -> None:
    """Test and train on all of them."""
    size = learner.train.batch_examples
    for start in range(0, len(examples), size):
        learner.step(examples[start : start + size])


def quality(learner: Learner) -> dict[str, float]:
    """Give the figures of retrieval over all targets."""
    figures = learner.metrics.retrieval[MODEL].total.figures()[-1]
    return dict(zip(RetrievalTally.FIGURES, figures.tolist(), strict=True))
