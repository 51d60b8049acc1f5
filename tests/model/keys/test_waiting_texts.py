import doctest
import time

import numpy as np
from hypothesis import given, strategies as st

import model.keys.waiting_texts
from model.keys.waiting_texts import WaitingTexts

MOST = 4
calls = st.lists(
    st.tuples(st.sampled_from(["keep", "bury", "take"]), st.lists(st.integers(0, 7), max_size=9)), max_size=20
)


@given(calls)
def test_the_last_texts_are_kept_and_a_restored_state_goes_on(every: list[tuple[str, list[int]]]) -> None:
    """As a list of the last MOST different keys has them; a burial adds half as many of its last."""
    waiting, oracle = WaitingTexts(MOST), list[int]()
    for what, keys in every:
        texts = [f"text {key}" for key in keys]
        if what == "take":
            assert [waiting.take(key) for key in keys] == [
                f"text {key}" if key in oracle and key not in keys[:n] else "" for n, key in enumerate(keys)
            ]
            oracle = [key for key in oracle if key not in keys]
        elif what == "keep":
            assert waiting.keep(keys, texts) == 0
        else:
            waiting.keep(keys[-waiting.most_buried :], texts[-waiting.most_buried :])
        if what != "take":
            for key in keys if what == "keep" else keys[-(MOST // 2) :]:
                oracle = [*(other for other in oracle if other != key), key]
            oracle = oracle[-MOST:]
        restored = WaitingTexts(MOST)
        restored.load_state({name: np.array(array) for name, array in waiting.state().items()})
        assert restored.state()["keys"].tolist() == waiting.state()["keys"].tolist() == oracle
        waiting = restored


def test_another_text_of_a_key_is_a_collision() -> None:
    """The first stays."""
    waiting = WaitingTexts(MOST)
    assert waiting.keep([1, 1], ["a", "b"]) == 1
    assert waiting.take(1) == "a"


def test_what_is_pushed_out_costs_about_as_much_as_what_comes() -> None:
    """However many leave at once: a mass death brings half as many as are kept, in one step."""
    waiting, count = WaitingTexts(1 << 16), 1 << 16
    texts, spent_s = ["text"] * count, []
    for first in (0, count):
        start_s = time.process_time()
        waiting.keep(range(first, first + count), texts)
        spent_s.append(time.process_time() - start_s)
    assert spent_s[1] < 8 * spent_s[0] + 0.05


def test_the_docstring_is_true() -> None:
    assert doctest.testmod(model.keys.waiting_texts).failed == 0
