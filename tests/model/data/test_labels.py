import numpy as np
from hypothesis import given, strategies as st

from model.data.labels import TargetSelector, accidental_hits
from model.data.micro_batch import collate
from stream.example import Example, Kind, decode, id_key
from tests.factories import make_examples

small = st.integers(0, 4)


@given(st.lists(st.tuples(small, small), max_size=8), st.lists(small, max_size=8))
def test_a_negative_that_the_request_liked_is_a_hit(positives: list[tuple[int, int]], drawn: list[int]) -> None:
    """A positive of a request is a hit for all targets of that request, and for no other, in any order."""
    rows, requests = (np.array([pair[i] for pair in positives], np.int64) for i in (0, 1))
    by_hand = [[any(row == n and r == own for row, r in positives) for n in drawn] for _, own in positives]
    hits = np.zeros((len(positives), len(drawn)), np.bool_)
    hits[accidental_hits(rows, requests, np.array(drawn, np.int64))] = True
    assert hits.tolist() == by_hand


def test_targets_are_sorted_out_by_their_labels() -> None:
    """Compared with loops over the examples: any action that is not negative is liked; shown items are ranked."""
    [log] = make_examples(seed=4, partitions=1, count=80)
    examples = [message for record in log if isinstance(message := decode(record.value or b""), Example)]
    chosen = TargetSelector(("like", "click"), ("skip",)).select(collate(examples))
    liked, shown, labels, t = [], [], [], 0
    for example in examples:
        for i, position in enumerate(example.positions):
            own = example.labels[example.label_offsets[i] : example.label_offsets[i + 1]].tolist()
            if any(action != id_key("skip") for action in own):
                liked.append(t)
            if example.kinds[position] == Kind.IMPRESSION:
                shown.append(t)
                labels.append([id_key("like") in own, id_key("click") in own])
            t += 1
    assert chosen.positive.tolist() == liked
    assert chosen.shown.tolist() == shown
    assert chosen.labels.tolist() == labels
    assert 0 < len(liked) < t
