"""Learners on several ranks: rank 0 leads, the others do as it does.

    rank 0      reads the examples in their one order, calls its learner, writes checkpoints and snapshots
    others      get each call with its arguments, and make it too; they read no topic, no clock and no file

Every rank has the vocabularies, counts and metrics, which are the same on all since they are functions of the calls; so
are the dense parameters and the rows of features. The rows of items are shared out among the ranks, and so is the
encoding of each micro-batch (forward_pass.py) and the scoring of the catalogue (ranker.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord, Tombstone
from model.distributed.ranks import Ranks
from model.errors import ModelError
from model.learning.learner import WEIGHTS, Learner, StepReport
from model.network.rankers import RANKERS
from model.network.ranking.base import RankingModel
from stream.example import Example

_ITEM_TABLE: Final = WEIGHTS + "item_table."


class LeadingLearner(Learner):
    """The learner of rank 0, whose calls the other ranks make too; arguments as for Learner.

    Raises:
        ModelError: The model cannot be trained on several ranks.
    """

    def __init__(self, model: ModelSettings, train: TrainSettings, ranks: Ranks) -> None:
        _refuse_whole_batches(model, ranks)
        ranks.send((model, train))
        super().__init__(model, train, ranks=ranks)

    def _lead(self, name: str, *arguments: Any, **named: Any) -> None:
        self.weights.ranks.send((name, arguments, named))

    def step(
        self, examples: Sequence[Example], *, test: bool = True, learn: bool = True, count: bool = True
    ) -> StepReport:
        """Test on a micro-batch, then train on it, on all ranks."""
        self._lead("step", list(examples), test=test, learn=learn, count=count)
        return super().step(examples, test=test, learn=learn, count=count)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take catalogue records in on all ranks."""
        self._lead("learn_items", list(records))
        super().learn_items(records)

    def digest(self) -> str:
        """Return the digest, the same as if one process had all rows."""
        self._lead("digest")
        return super().digest()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, the same as if one process had all rows."""
        self._lead("state")
        return super().state()

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds, on all ranks; each gets its own rows of items alone."""
        small = {name: array[:0] if name.startswith(_ITEM_TABLE) else array for name, array in arrays.items()}
        self._lead("load_state", small)
        super().load_state(arrays)

    def snapshot_arrays(self, at_ms: int) -> dict[str, Any]:
        """Return what queries need, the same as if one process had all rows."""
        self._lead("snapshot_arrays", at_ms)
        return super().snapshot_arrays(at_ms)


def follow(ranks: Ranks) -> Learner:
    """Make every call that rank 0 makes, until it ends; return this rank's learner."""
    model, train = ranks.receive()
    learner = Learner(model, train, ranks=ranks)
    while (call := ranks.receive()) is not None:
        name, arguments, named = call
        getattr(learner, name)(*arguments, **named)
    ranks.end()
    return learner


def _refuse_whole_batches(model: ModelSettings, ranks: Ranks) -> None:
    """Refuse what one rank cannot do for a share of a micro-batch or of the rows."""
    ranker = RANKERS.get(model.encoder)
    if ranker is not None and ranker.auxiliary_loss is not RankingModel.auxiliary_loss:
        raise ModelError(
            f"model.encoder {model.encoder} has an auxiliary loss over a whole micro-batch, which {ranks.count} ranks "
            "cannot share; train it with one process."
        )
    if model.item_rows:
        raise ModelError(
            f"model.item_rows = {model.item_rows} lets items share rows, which {ranks.count} ranks cannot share out; "
            "set it to 0, or train with one process."
        )
