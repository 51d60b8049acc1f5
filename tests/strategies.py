"""Hypothesis strategies for events, and how many examples a property is tried on."""

from typing import Any

from hypothesis import settings, strategies as st

Wire = dict[str, Any]

USERS = ("u1", "u2", "ü3", 42)
ITEMS = ("a", "b", "c", "d", 7, "items with a longer name")
ACTIONS = ("click", "like", "watch")

times_ms = st.integers(0, 40).map(lambda tick: 1_000_000 + tick * 500)


def tries(number: int) -> int:
    """Return this number of examples under `make test-all`, half of it under `make test`."""
    return max(1, number * settings().max_examples // 100)


@st.composite
def impressions(draw: st.DrawFn) -> Wire:
    """One slate of distinct items."""
    items = draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=4, unique_by=str))
    return {
        "user_id": draw(st.sampled_from(USERS)),
        "request_id": draw(st.sampled_from(("r1", "r2", "r3"))),
        "ts": draw(times_ms),
        "items": items,
    }


@st.composite
def actions(draw: st.DrawFn) -> Wire:
    """One action, with or without the request it answers."""
    wire = {
        "user_id": draw(st.sampled_from(USERS)),
        "item_id": draw(st.sampled_from(ITEMS)),
        "action": draw(st.sampled_from(ACTIONS)),
        "ts": draw(times_ms),
    }
    if draw(st.booleans()):
        wire["request_id"] = draw(st.sampled_from(("r1", "r2", "r9")))
    return wire


@st.composite
def attributes(draw: st.DrawFn) -> Wire:
    """One value of a slowly changing feature."""
    return {
        "user_id": draw(st.sampled_from(USERS)),
        "name": draw(st.sampled_from(("country", "tier"))),
        "value": draw(st.sampled_from(("NO", "SE", 3, True))),
        "ts": draw(times_ms),
    }


def event_sets(most: int = 25) -> st.SearchStrategy[dict[str, list[Wire]]]:
    """Events of all three topics, some of them twice."""
    return st.fixed_dictionaries(
        {
            "impressions": st.lists(impressions(), max_size=most),
            "actions": st.lists(actions(), max_size=most),
            "attributes": st.lists(attributes(), max_size=most // 3),
        }
    )
