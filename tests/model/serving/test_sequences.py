import pytest

from model.errors import ModelError
from model.serving.answerer import Answerer
from model.serving.sequences import NoSequences, read_tokens
from stream.example import TOKEN_DTYPE
from tests.served import HISTORY, Memory, model_arrays, snapshot_of


def test_a_store_that_cannot_be_read_is_a_sentence() -> None:
    """Whatever the store raises, the answer is a ModelError that names the user."""

    class Broken:
        def tokens(self, user: str, last: int) -> None:
            raise OSError("disk on fire")

    with pytest.raises(ModelError, match="The sequence of user 'ada' cannot be read: disk on fire"):
        Answerer(snapshot_of(model_arrays()), Broken()).topk("ada")


def test_an_unknown_user_has_no_tokens() -> None:
    """No tokens, but of the dtype that tokens have; a user's last ones otherwise."""
    for sequences in (NoSequences(), Memory({})):
        tokens = read_tokens(sequences, "ada", 3)
        assert (len(tokens), tokens.dtype) == (0, TOKEN_DTYPE)
    assert read_tokens(Memory({"ada": HISTORY}), "ada", 3).tolist() == HISTORY[-3:].tolist()
