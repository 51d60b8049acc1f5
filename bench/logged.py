"""The examples of a log, as the joiner makes them, in memory, so that many learners can train on the same ones."""

from collections.abc import Sequence

from model.evaluation.metrics import METRICS
from model.evaluation.prequential import MODEL
from model.learning.learner import Learner
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.experiment.feeds import Feed, Joined, WholeRecords
from sim.sources.datasets import load_dataset
from sim.sources.log_columns import LogSettings
from stream.config import StreamSettings
from stream.example import Example


def movielens(example_tokens: int, limit: int | None = None) -> list[Example]:
    """Return the examples of MovieLens-small as `hstu demo` replays it."""
    log = load_dataset("movielens", LogSettings(shuffle_ties=1, limit=limit))
    return examples_of(Joined(log, StreamSettings(example_tokens=example_tokens)))


def dirichlet(settings: DirichletSettings) -> list[Example]:
    """Return the examples of the paper's synthetic stream, one for each record."""
    return examples_of(WholeRecords(DirichletStream(settings)))


def examples_of(feed: Feed) -> list[Example]:
    """Return the examples of a feed in order."""
    return [entry for entry in feed.entries() if isinstance(entry, Example)]


def learn(learner: Learner, examples: Sequence[Example]) -> None:
    """Test and train on all of them."""
    size = learner.train.batch_examples
    for start in range(0, len(examples), size):
        learner.step(examples[start : start + size])


def quality(learner: Learner) -> dict[str, float]:
    """Return the figures of retrieval over all targets."""
    figures = learner.metrics.retrieval[MODEL].total.figures()[-1]
    return dict(zip((metric.key for metric in METRICS), figures.tolist(), strict=True))
