"""The schedule of faults is the seed's; every kind has a hand that does it."""

from tests.chaos.faults import FAULTS
from tests.chaos.schedule import KINDS, make_schedule


def test_a_seed_replays_its_schedule() -> None:
    """The same faults with the same victims, lengths and pauses; another seed has others."""
    assert make_schedule(3, 60) == make_schedule(3, 60)
    assert make_schedule(3, 60) != make_schedule(4, 60)


def test_each_kind_comes_before_any_comes_again() -> None:
    """So a schedule of as many faults as there are kinds has all of them; a choice of kinds is kept to."""
    kinds = [fault.kind for fault in make_schedule(1, 60)]
    assert sorted(kinds[: len(KINDS)]) == sorted(KINDS)
    assert len(kinds) == 60
    assert {fault.kind for fault in make_schedule(1, 9, ["join", "leave"])} == {"join", "leave"}


def test_every_kind_is_done_by_something() -> None:
    """A new kind needs both."""
    assert FAULTS.keys() == KINDS.keys()
