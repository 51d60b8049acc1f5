"""What encoders add that learn by hidden tokens (Cloze), read from both sides: BERT4Rec and S3Rec.

m tokens of the sequences, B sequences, c hidden targets, P targets, F rows of features, D width. Where examples of the
past are replayed, some of their targets are hidden, and are predicted from what comes before and after them
(model/learning/cloze.py). What an encoder is tested by, `forward`, still sees nothing after a token.
"""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from model.network.encoders.base import JaggedEncoder
from model.network.encoders.value_loss import Values


class Hidden(NamedTuple):
    """What losses by features read of a replayed share: its hidden targets, and all of its targets."""

    outputs: Tensor  # [c, D] of `both_ways` at the hidden ones
    hidden_values: Values  # [c] of their items
    rows: Tensor  # [P, D] the own rows of the targets' items, without features
    values: Values  # [P] of these items
    features: Tensor  # [F, D] rows of the feature table, of which values have numbers


class MaskedEncoder(JaggedEncoder):
    """An encoder that also reads sequences with hidden tokens."""

    replaces: ClassVar[bool]
    """Whether the loss of hidden targets takes the place of all others in a replayed step; else it is added to them."""
    by_features: ClassVar[bool] = False
    """Whether it has losses by features of the catalogue."""

    @abstractmethod
    def both_ways(self, x_mD: Tensor, offsets: Tensor, places_m: Tensor, hidden_m: Tensor) -> Tensor:
        """Return the output at each token, [m, D].

        Args:
            x_mD: The embedded tokens; hidden ones have place and kind alone.
            offsets: Bounds of the sequences, i64[B+1].
            places_m: The tokens' places in their sequences, i64.
            hidden_m: Which are hidden, bool.
        """

    @abstractmethod
    def predicted(self, y_cD: Tensor) -> Tensor:
        """Return what the queries of hidden targets are made of, from their outputs, [c, D]."""

    def feature_losses(self, hidden: Hidden) -> tuple[Tensor, Tensor]:
        """Return losses by features, weighted: of each hidden target, [c], and of each target, [P]."""
        raise NotImplementedError
