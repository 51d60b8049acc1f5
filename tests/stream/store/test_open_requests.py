"""Open requests of one user: which an action answers, and what a batch writes of them."""

import pytest
from hypothesis import given, strategies as st

from stream.schema.ids import NO_KEY
from stream.store import layout, open_requests
from stream.store.layout import Request
from stream.store.open_requests import OpenRequests
from tests.memory_store import MemoryStore

USER, ITEMS, KEYS = 5, st.integers(1, 4), st.integers(1, 3)
STEPS = ("add", "add", "add", "final", "close", "ask", "ask", "write", "open again")


def naive(requests: list[Request], item: int, asked: int) -> Request | None:
    """Return the newest fitting one that is not final, else the newest."""
    fitting = [one for one in requests if item in one.items and asked in (NO_KEY, one.key)]
    unfinished = [one for one in fitting if not one.final]
    return (unfinished or fitting or [None])[-1]  # type: ignore[list-item]


@pytest.mark.parametrize("scanned", [0, 2, 100])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sets(ITEMS, min_size=1), KEYS | st.just(NO_KEY))))
def test_an_action_answers_the_newest(scanned: int, steps: list[tuple[str, set[int], int]]) -> None:
    """Scanned or looked up, through writes and restarts: as in a plain list; the store has what is open."""
    store, plain = MemoryStore({}), list[Request]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_requests, "_SCANNED", scanned)
        own = OpenRequests(USER, store, 0)
        for number, (step, items, key) in enumerate(steps, start=1):
            if step == "add":
                plain.append(Request(number, key, 10, 20, -1, 0, sorted(items), {}))
                own.add(plain[-1])
            elif step == "final" and (request := own.answered(min(items), key)):
                request.final = plain[[one.number for one in plain].index(request.number)].final = True
                own.change(request)
            elif step == "close" and plain:
                assert own.close(plain[0].number, plain[0].due_ms) == plain.pop(0)
                assert own.close(number, 0) is None
            elif step == "ask":
                assert own.answered(min(items), key) == naive(plain, min(items), key)
            elif step in ("write", "open again"):
                store.write(own.changes())
                assert [layout.REQUESTS.decode(value) for _, value in store.scan(layout.REQUEST)] == plain
                assert list(own.changes()) == []
            if step == "open again":
                own = OpenRequests(USER, store, plain[0].number if plain else 0)
            assert (list(own), own.oldest, len(own)) == (plain, (plain or [None])[0], len(plain))
        store.write(own.erasure())
        assert store.data == {}


def test_a_batch_writes_the_requests_that_changed() -> None:
    """Of a thousand open ones, one that was answered and one that was closed."""
    store, own = MemoryStore({}), OpenRequests(USER, MemoryStore({}), 0)
    for number in range(1, 1001):
        own.add(Request(number, number, 10, 20, -1, 0, [number, 7], {}))
    store.write(own.changes())
    answered = own.answered(600, NO_KEY)
    assert answered is not None
    own.change(answered)
    own.close(1, 20)
    written = dict(own.changes())
    assert set(written) == {layout.request_key(USER, 600), layout.request_key(USER, 1)}
    assert written[layout.request_key(USER, 1)] is None
