"""The closed loop: the best slates have no regret, and the events that come back are a stream."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim.errors import SimError
from sim.scenarios.scenario import load_scenario
from sim.sources.source import SourceEvent
from sim.world.closed_loop import ClosedLoop, RequestBlock
from sim.world.events import WorldStream
from tests.sim.world.worlds import ALL, read_back, scenario

CLOSED: dict[str, Any] = {
    "slates": {"size": 5, "closed": True, "half_lift": 4},
    "position": {"decay": 0.7},
    "delay": {"law": "lognormal", "seconds": 5_000, "sigma": 2.0},
}
Recommend = Callable[[RequestBlock], list[list[str]]]


def made(**base: Any) -> ClosedLoop:
    return scenario(base={"events": 2_000} | base, **ALL, **CLOSED).loop()


def lived(loop: ClosedLoop, recommend: Recommend) -> tuple[list[SourceEvent], np.ndarray, np.ndarray]:
    """Return the events, the regret and the expected clicks of a whole run."""
    events, regret, expected = list[SourceEvent](), [], []
    for block in loop.blocks():
        events += block.answer(recommend(block))
        regret.append(block.regret)
        expected.append(block.expected)
    return events, np.concatenate(regret), np.concatenate(expected)


def best(block: RequestBlock) -> list[list[str]]:
    return block.best


def by_chance(block: RequestBlock) -> list[list[str]]:
    rng = np.random.default_rng(int(block.ts_ms[0]))
    return [rng.permutation(block.live)[:5].tolist() for _ in block.users]


def nothing(block: RequestBlock) -> list[list[str]]:
    return [[] for _ in block.users]


def test_the_seer_has_no_regret() -> None:
    """Random slates have some; regret is never negative."""
    _, none, most = lived(made(), best)
    assert (none == 0).all()
    _, some, fewer = lived(made(), by_chance)
    assert (some >= 0).all()
    assert some.mean() > 0.1
    assert fewer + some == pytest.approx(most)


@pytest.mark.parametrize("recommend", [best, by_chance, nothing])
def test_a_run_is_a_stream(recommend: Recommend) -> None:
    """In order of time, with live items only, each slate once; at the end all clicks have come."""
    loop = made()
    events, _, expected = lived(loop, recommend)
    stream = read_back(loop.catalogue, events)
    assert len(stream.slates) == 2_000
    assert len(stream.born) == len(loop.world.items)
    for _, user, item, request in stream.clicks:
        _, viewer, items = stream.slates[request or ""]
        assert (user, item in items) == (viewer, True)
    assert 0.5 * expected.sum() < len(stream.clicks) < 1.1 * expected.sum()  # items die before late clicks come


def test_what_was_given_is_what_was_known() -> None:
    """Before a block, all earlier events are out, and the births and deaths with which its tick begins."""
    loop, last = made(), 0
    alive = {item for item, _ in loop.catalogue}
    for block in loop.blocks():
        assert set(block.live) == alive
        assert last <= block.ts_ms[0]
        events = block.answer(nothing(block))
        last = events[-1].ts_ms
        for event in events:
            if event.topic == "items":
                change = alive.discard if event.value is None else alive.add
                change((event.key or b"").decode())


def test_no_block_is_empty() -> None:
    """Ticks without requests have no block; their events come all the same."""
    loop = made(session=500.0, session_gap_s=1.0)
    sizes = [len(block) for block in loop.blocks() if block.answer(nothing(block))]
    assert len(sizes) == len(loop) < loop.world.ticks
    assert min(sizes) > 0
    assert sum(sizes) == 2_000
    events, *_ = lived(loop, nothing)
    assert events == list(WorldStream("same", loop.world).events())


def test_where_nobody_recommends_the_policy_does() -> None:
    """With empty slates the loop is the stream that a replay sends."""
    scene = scenario(base={"events": 2_000}, **ALL, **CLOSED)
    events, *_ = lived(scene.loop(), nothing)
    assert events == list(scene.source().events())
    assert "is a closed loop, but in a replay nobody recommends" in scene.remark
    assert "logging policy, taste" in scene.remark


def test_short_slates_are_filled_up() -> None:
    """The given items stay on top."""
    loop = made()
    for block in loop.blocks():
        given = [["", item] for item in [block.live[3]] * len(block)]
        block.answer(given)
        assert all(shown[0] == block.live[3] and len(set(shown)) == 5 for shown in block.shown)


def test_recommenders_meet_the_same_luck() -> None:
    """Two recommenders that show the same get the same clicks, whatever they have shown before."""
    one, other = made(), made()
    for number, (a, b) in enumerate(zip(one.blocks(), other.blocks(), strict=True)):
        shown = by_chance(a)
        events_a, events_b = a.answer(shown), b.answer(best(b) if number < 3 else shown)
        if number > 6:
            fresh = {f'"r{request}"'.encode() for request in range(256 * 7, 2_000)}
            assert [e for e in events_a if any(name in (e.value or b"") for name in fresh)] == [
                e for e in events_b if any(name in (e.value or b"") for name in fresh)
            ]


@pytest.mark.parametrize(
    ("slate", "sentence"),
    [
        (["i0", "i0"], "shows an item twice, or more than 5 items"),
        (["x"], "shows 'x', which is no item that lives at that time"),
        (["i99999"], "shows 'i99999', which is no item that lives"),
    ],
)
def test_a_slate_that_cannot_be_shown_is_refused(slate: list[str], sentence: str) -> None:
    """The error names the slate's number and the item."""
    block = next(made(items=400).blocks())
    assert "i0" in block.live
    with pytest.raises(SimError, match=f"Slate 1 of the block {sentence}"):
        block.answer([[], slate, *([[]] * (len(block) - 2))])
    with pytest.raises(SimError, match=r"1 slates answer a block of \d+ requests"):
        block.answer([[]])


def test_a_block_is_answered_once() -> None:
    """A second or a missing answer is refused; only a closed loop has blocks."""
    loop = made()
    blocks = loop.blocks()
    first = next(blocks)
    first.answer(nothing(first))
    with pytest.raises(SimError, match="answered already"):
        first.answer(nothing(first))
    next(blocks)
    with pytest.raises(SimError, match="Block 1 of the closed loop was not answered"):
        next(blocks)
    with pytest.raises(SimError, match=r"growth is no closed loop; that takes closed = true in its table \[slates\]"):
        load_scenario("growth").loop()
