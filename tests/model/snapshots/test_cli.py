"""`hstu snapshots`: its verbs print tables or one document, and do what they print."""

import json
from pathlib import Path

import pytest

from model.errors import ModelError
from model.storage.aliases import LATEST, find
from model.storage.checkpoint import say_farewell
from tests.model.commands import Context, Run, ids
from tests.model.storage.test_delta_log import Chain
from tests.served import NOW_MS, tokens_of


def test_the_list_shows_all_with_their_aliases(run: Run, directory: Path) -> None:
    """Oldest first, as a table and as a document; nothing is an empty list."""
    listed = json.loads(run("snapshots", "list", "--json").stdout)
    assert [(entry["step"], entry["aliases"]) for entry in listed] == [(1, []), (2, []), (3, [LATEST])]
    assert [entry["parent"] for entry in listed] == ["", *ids(directory)[:2]]
    lines = run("snapshots", "list").stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["id", "aliases"]
    assert lines[3].split("\t")[:2] == [ids(directory)[2], LATEST]
    (directory / ids(directory)[0] / "arrays.safetensors").write_bytes(b"")
    assert "is torn" in run("snapshots", "list").stderr
    assert json.loads(run("snapshots", "list", "--json", "--name", "none").stdout) == []


def test_show_prints_digests_metrics_and_settings(run: Run, directory: Path) -> None:
    """For the latest snapshot or the one named, after every byte was checked."""
    shown = json.loads(run("snapshots", "show", "--json").stdout)
    assert (shown["step"], shown["aliases"], shown["digests"]["sequences"]) == (3, [LATEST], "5e")
    assert (shown["settings"]["model"]["dim"], shown["metrics"]["model"]["hr@10"]) == (16, 0.3)
    rows = dict(line.split("\t", 1) for line in run("snapshots", "show", ids(directory)[0]).stdout.splitlines()[1:])
    assert (rows["digest sequences"], rows["digest examples"], rows["digest model"]) == ("5e", "e8", f"{1:032x}")
    assert (rows["model.hr@10"], rows["model.dim"], rows["created"]) == ("0.1000", "16", "2023-11-14 22:13:20")
    arrays = directory / ids(directory)[0] / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match="is damaged"):
        run("snapshots", "show", ids(directory)[0])


def test_diff_prints_births_withdrawals_and_metrics(run: Run, directory: Path) -> None:
    """From the first snapshot to the latest: two items born, one withdrawn, figures side by side."""
    first = ids(directory)[0]
    found = json.loads(run("snapshots", "diff", first, LATEST, "--json").stdout)
    assert (found["born"], found["withdrawn"], found["restored"]) == (["i18", "i19"], ["i6"], [])
    assert found["numbers"]["model.hr@10"] == [0.1, 0.3]
    result = run("snapshots", "diff", first, LATEST)
    assert "items\t18\t20\t2" in result.stdout.splitlines()
    assert "2 items born: i18, i19." in result.stderr
    assert "1 items withdrawn: i6." in result.stderr
    assert "model.hr@10" not in result.stdout
    assert "1 more figures: --all." in result.stderr
    assert "model.hr@10\t0.1000\t0.3000\t0.2000" in run("snapshots", "diff", first, LATEST, "--all").stdout


def test_diff_has_the_churn_of_a_panel(run: Run, directory: Path, context: Context) -> None:
    """Of the users of this host with their events that the earlier one had learned; without any it says why."""
    first = ids(directory)[0]
    context.memory.users = {f"u{i}": tokens_of("i1 click", f"i{i} like", end_ms=NOW_MS - 60_000) for i in range(9)}
    context.memory.users["new"] = tokens_of("i1", end_ms=2 * NOW_MS)
    context.memory.users["far"] = tokens_of("x1 click", end_ms=NOW_MS)
    churn = json.loads(run("snapshots", "diff", first, LATEST, "--json").stdout)["churn"]
    assert (churn["users"], churn["ts_ms"]) == (10, NOW_MS - 60_000)
    assert 0 < churn["mean"] < 1
    assert churn["unchanged"] + churn["replaced"] < 10
    words = f"{churn['mean']:.0%} of the items are others; {churn['unchanged']} users keep all"
    assert words in run("snapshots", "diff", first, LATEST).stderr
    same = json.loads(run("snapshots", "diff", LATEST, LATEST, "--json", "--panel", "4").stdout)["churn"]
    assert (same["users"], same["mean"], same["unchanged"]) == (4, 0, 4)
    assert json.loads(run("snapshots", "diff", first, LATEST, "--json", "--panel", "0").stdout)["churn"] is None
    context.memory.users = {}
    assert "No panel of users: no store on this host has a user" in run("snapshots", "diff", first, LATEST).stderr


def test_aliases_move_and_roll_back(run: Run, directory: Path) -> None:
    """`alias` takes an id or another alias; `rollback` goes to the parent."""
    first, second, third = ids(directory)
    assert run("snapshots", "alias", "champion", LATEST).stdout == f"champion is now {third}.\n"
    assert run("snapshots", "rollback", "champion").stdout == f"champion is now {second}.\n"
    assert run("snapshots", "alias", "champion", first).stdout == f"champion is now {first}.\n"
    assert find(directory, "champion") == first
    assert "moves latest on at its next snapshot" in run("snapshots", "rollback", LATEST).stderr


def test_gc_deletes_the_old_and_unnamed(run: Run, directory: Path) -> None:
    """It prints their ids."""
    first, second, third = ids(directory)
    run("snapshots", "alias", "champion", first)
    assert json.loads(run("snapshots", "gc", "--keep", "1", "--json").stdout) == {"deleted": [second]}
    assert ids(directory) == [first, third]
    assert run("snapshots", "gc", "--keep", "1").stdout == "Deleted 0 snapshots.\n"


def test_the_list_says_what_is_pinned_and_what_is_stale(run: Run, directory: Path) -> None:
    """A pinned one outlives gc; the newest is stale unless there is no trainer, or its log has ended."""
    first, second, third = ids(directory)
    assert run("snapshots", "pin", first).stdout.startswith(f"{first} is pinned")
    assert json.loads(run("snapshots", "gc", "--keep", "1", "--json").stdout) == {"deleted": [second]}
    assert [each["pinned"] for each in json.loads(run("snapshots", "list", "--json").stdout)] == [True, False]
    listed = run("snapshots", "list")
    assert [line.split("\t")[-1] for line in listed.stdout.splitlines()] == ["kept", "pinned", ""]
    assert "stale" not in listed.stderr
    trainer = directory.parent.parent / "train" / directory.name
    trainer.mkdir(parents=True)
    assert " old: its trainer has crashed, waits or cannot write" in run("snapshots", "list").stderr
    say_farewell(trainer, "stopped")
    assert "its trainer was stopped; `hstu train` goes on" in run("snapshots", "list").stderr
    say_farewell(trainer, "ended")
    assert "stale" not in run("snapshots", "list").stderr
    assert run("snapshots", "unpin", first).stdout == f"{first} is no longer pinned.\n"
    assert json.loads(run("snapshots", "gc", "--keep", "1", "--json").stdout) == {"deleted": [first]}
    assert ids(directory) == [third]


def test_verify_reads_every_byte(run: Run, directory: Path) -> None:
    """Status 1 and a sentence for each that is damaged or torn; the others are whole."""
    first, second, third = ids(directory)
    assert json.loads(run("snapshots", "verify", "--json").stdout)["whole"] == [first, second, third]
    with pytest.raises(ModelError, match=r"no snapshot in .*nope to verify"):
        run("snapshots", "verify", "--name", "nope")
    arrays = directory / second / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"?")
    found = run("snapshots", "verify")
    assert found.exit_code == 1
    assert found.stdout.splitlines()[1:] == [f"{first}\twhole\t0", f"{second}\tdamaged\t", f"{third}\twhole\t0"]
    assert "is damaged" in found.stderr


def test_verify_follows_the_deltas(run: Run, tmp_path: Path) -> None:
    """Of the chain that is written to and of the one before; one that is garbage, or missing, is told."""
    chain = Chain(tmp_path / "hstu-data" / "snapshots" / "silu")
    first = chain.root.name
    chain.append(), chain.append()
    chain.move()
    second = chain.begin()
    last = chain.append()
    found = json.loads(run("snapshots", "verify", "--json").stdout)
    assert (found["whole"], found["deltas"]) == ([first, second], {first: 3, second: 1})
    chain.paths[0].unlink()
    last.write_bytes(b"garbage")
    found = run("snapshots", "verify")
    assert found.exit_code == 1
    assert found.stdout.splitlines()[1:] == [f"{first}\twhole\tdamaged", f"{second}\twhole\tdamaged"]
    assert f"{last.name} is damaged" in found.stderr
    assert "Delta 1 is missing" in found.stderr


def test_promote_says_why_not(run: Run, directory: Path) -> None:
    """Snapshots that have tested nothing are no champions: status 1, the reason, and no alias."""
    held = run("snapshots", "promote")
    assert (held.exit_code, find(directory, "champion")) == (1, None)
    assert held.stdout.startswith("latest is not the champion: its window has fewer than 200 targets")
    assert json.loads(run("snapshots", "promote", "--json").stdout)["moved"] is False
