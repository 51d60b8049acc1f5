"""The plan of `hstu compare LOG`, and what is said before it runs."""

from pathlib import Path

import pytest

from sim.compare.of_log import CONTESTANTS, announced, log_plan
from sim.errors import SimError

TABLES = {"model": {"dim": 8}, "train": {"negatives": 16}, "stream": {}}


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A file of 60 clicks of 5 users on 7 items."""
    rows = [f"{n % 5},{n % 7},{1_700_000_000 + n}" for n in range(60)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["who,item_id,ts", *rows]) + "\n")
    return str(path)


def test_all_that_could_be_chosen_is_compared(log: str) -> None:
    """By the configuration's tables and the second half; one run of each, in the stream's name."""
    plan = log_plan([log], {"user": "who"}, TABLES)
    assert (plan.model, plan.train, plan.stream) == ({"dim": 8}, {"negatives": 16}, {"example_tokens": 64})
    assert plan.log == {"log": [log], "user": "who"}
    specs = plan.specs()
    assert [spec.contestant for spec in specs] == [*CONTESTANTS]
    assert {(spec.scenario, spec.late_share, spec.frozen) for spec in specs} == {("own.csv", 0.5, False)}
    assert {"hstu", "stack", "popularity"} <= set(CONTESTANTS)


def test_the_configuration_s_own_number_of_tokens_is_kept() -> None:
    """64 is for those who have not chosen."""
    assert log_plan(["x"], {}, TABLES | {"stream": {"example_tokens": 128}}).stream == {"example_tokens": 128}


def test_another_file_is_another_run(log: str, tmp_path: Path) -> None:
    """The same name with other content, or another way to read it."""

    def ids(file: str, **flags: object) -> set[str]:
        return {spec.id for spec in log_plan([file], {"user": "who", **flags}, TABLES).specs()}

    before = ids(log)
    assert not before & ids(log, limit=50)
    other = tmp_path / "other"
    other.mkdir()
    moved = other / "own.csv"
    moved.write_text(Path(log).read_text() + "1,1,1800000000\n")
    assert not before & ids(str(moved))


def test_what_it_will_cost_is_said_before(log: str) -> None:
    """What the log holds, and about how long it will take; a way out where that is long."""
    said = [*announced(log_plan([log], {"user": "who"}, TABLES), workers=2)]
    assert "60 events of 5 users on 7 items" in said[0]
    assert said[-2].startswith("Examples have at most 64 tokens of history: stream.example_tokens")
    assert said[-1].startswith("This will take about 20 s (40 s of one core)")
    assert not any("--limit" in sentence for sentence in said)


def test_a_log_without_positives_is_refused(log: str) -> None:
    """Before anything runs, with the actions that it has."""
    plan = log_plan([log], {"user": "who"}, TABLES | {"train": {"negative_actions": ("click", "skip")}})
    with pytest.raises(SimError, match=r"In own.csv no row is a positive action \(it has click; .* are click, skip\)"):
        next(announced(plan, workers=2))


def test_what_is_lost_of_a_log_is_said_before(log: str) -> None:
    """A row without a user is named as by a replay, once."""
    with Path(log).open("a") as file:
        file.write(",3,1700000100\n")
    flags = {"user": "who", "item": "item_id", "time": "ts", "skip_bad": "all"}
    said = " ".join(announced(log_plan([log], flags, TABLES), workers=2))
    assert "60 events" in said
    assert said.count("1 of 61 rows are bad and left out") == 1


def test_a_log_that_takes_long_has_a_way_out(log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--limit is named, but not to who has given it."""
    monkeypatch.setattr("sim.compare.of_log._NETWORK_MS", (1e6, 0.0))
    assert "--limit 20000 compares" in [*announced(log_plan([log], {"user": "who"}, TABLES), workers=2)][-1]
    said = announced(log_plan([log], {"user": "who", "limit": 40}, TABLES), workers=2)
    assert not any("--limit 20000" in sentence for sentence in said)


def test_standard_input_cannot_be_read_again() -> None:
    """Each contestant reads the log, in processes of its own."""
    with pytest.raises(SimError, match="standard input does not allow"):
        log_plan(["-"], {}, TABLES)
    with pytest.raises(SimError, match="would write --bad-rows; keep them by hstu inspect"):
        log_plan(["log.csv"], {"skip_bad": "all", "bad_rows": "bad.jsonl"}, TABLES)
