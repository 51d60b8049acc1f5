"""A baseline that reads the catalogue is one class: here it is written, found by its name, and run as a contestant."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from model.baselines import BASELINES
from model.baselines.base import Baseline, among_candidates
from model.config import ModelSettings, TrainSettings
from model.data.candidates import Questions
from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex
from sim.experiment import contestants
from sim.experiment.feeds import Entry
from sim.experiment.run import Run, RunSpec
from stream.example import Example, Kind, id_key
from tests.batches import make_example, with_targets

CLICK, START_MS = id_key("click"), 1_700_000_000_000
SHELF = {"dune": "book", "solaris": "book", "alien": "film", "brazil": "film", "tetris": "game"}


class FavouriteCategory(Baseline):
    """The most popular items of the category that the user had most often; items of others are not recommended."""

    name = "favourite_category"
    title = "Most popular in the user's favourite category"

    def __init__(self, half_life_ms: int) -> None:
        self._counts: Counter[int] = Counter()
        self.learned: defaultdict[str, int] = defaultdict(int)

    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Score the items of each user's favourite category by their counts."""
        shelves = [questions.features(row).get("shelf") for row in range(len(questions.keys))]
        score_TV = np.full((len(questions), len(shelves)), -np.inf)
        for t in range(len(questions)):
            history = questions.rows[questions.starts[t] : questions.queries[t] + 1]
            had = Counter(shelves[row] for row in history.tolist() if row >= 0)
            if had:
                favourite = had.most_common(1)[0][0]
                score_TV[t] = [self._counts[v] if shelf == favourite else -np.inf for v, shelf in enumerate(shelves)]
        return among_candidates(score_TV, questions)

    def learn(self, questions: Questions) -> None:
        """Count the targets, and whose shelf they stand on: items that were just admitted have theirs too."""
        self._counts.update(questions.targets.tolist())
        for row in questions.targets.tolist():
            self.learned[str(questions.features(row)["shelf"])] += 1


def records() -> list[ItemRecord]:
    return [ItemRecord(id_key(item), item, None, {"shelf": shelf}, START_MS) for item, shelf in SHELF.items()]


def clicked(user: int, items: list[str], last_ms: int) -> Example:
    """Return an example of a user who clicked these items, the last of them as the target."""
    times_ms = range(last_ms - 1000 * (len(items) - 1), last_ms + 1, 1000)
    tokens = [(id_key(item), CLICK, ts_ms, Kind.ACTION) for item, ts_ms in zip(items, times_ms, strict=True)]
    return with_targets(make_example(tokens, user), [(len(items) - 1, len(items) - 2, 0, last_ms, [CLICK])])


STREAM = [
    clicked(1, ["alien", "dune", "solaris"], START_MS + 100_000),
    clicked(2, ["brazil", "tetris", "alien"], START_MS + 200_000),
    clicked(3, ["dune", "tetris", "dune", "solaris"], START_MS + 300_000),
    clicked(4, ["alien", "brazil", "dune"], START_MS + 400_000),
]


def test_it_ranks_by_what_the_catalogue_says() -> None:
    """A reader of books has the books in the order of their popularity; who prefers films does not find a book."""
    index, baseline = EntityIndex(), FavouriteCategory(1)
    index.learn_items(records())
    ranks = []
    for example in STREAM:
        taken = index.take_in([example])
        ranks += baseline.ranks(taken.questions).tolist()
        baseline.learn(taken.answered)
    assert ranks == [np.inf, np.inf, 1.0, np.inf]
    assert dict(baseline.learned) == {"book": 3, "film": 1}


def test_features_are_those_of_the_newest_record() -> None:
    """Rows of the vocabulary lead to the catalogue: a change is seen, a withdrawn or undescribed item has none."""
    index = EntityIndex()
    index.learn_items(records())
    index.take_in([STREAM[0], clicked(9, ["unheard", "alien"], START_MS + 1)])
    index.learn_items([ItemRecord(id_key("dune"), "dune", None, {"shelf": "classic", "pages": 412}, START_MS + 1)])
    index.learn_items([Tombstone(id_key("alien"), "alien", START_MS + 1)])
    questions = index.ask(STREAM[:1])
    found = {index.items.keys.tolist().index(id_key(item)): item for item in ("dune", "alien", "solaris", "unheard")}
    features = {item: questions.features(row) for row, item in found.items()}
    assert features == {
        "dune": {"shelf": "classic", "pages": 412},
        "alien": {},
        "solaris": {"shelf": "book"},
        "unheard": {},
    }


class Entries:
    """A feed of catalogue records and examples."""

    examples, dead_letters = len(STREAM), 0

    def entries(self, start: int = 0) -> Iterator[Entry]:
        yield from [*records(), *STREAM][start and start + len(SHELF) :]


def test_hstu_compare_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A contestant by its name: the feed brings the catalogue, and the figures are those of the ranks above."""
    monkeypatch.setitem(BASELINES, FavouriteCategory.name, FavouriteCategory)
    assert contestants.title_of("favourite_category") == FavouriteCategory.title
    assert "favourite_category" in contestants.names()
    contestant = contestants.make("favourite_category", ModelSettings(), TrainSettings())
    contestant.learn_items(records())
    tested = [contestant.step([example], test=True, learn=True) for example in STREAM]
    assert [rank for each in tested if each for rank in each.ranks.tolist()] == [np.inf, np.inf, 1.0, np.inf]
    spec = RunSpec(scenario="x", seed=1, contestant="favourite_category", train={"batch_examples": 1}, frozen=False)
    run = Run(spec, Entries())
    run.run()
    assert run.contestant.digest() == contestant.digest()
