"""`hstu query`: tables and documents of answers."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from model.errors import ModelError
from model.query.as_of import snapshot_as_of
from model.serving.responses import QueryError
from model.storage.aliases import move
from model.storage.delta_log import DeltaLog
from model.storage.snapshot import load_snapshot
from stream.errors import HstuError
from stream.example import END_OF_TIME_MS
from tests.model.commands import Context, Run, ids
from tests.served import NOW_MS, model_arrays, tokens_of, write_model


def test_top_k_prints_a_table_or_one_document(run: Run, directory: Path, context: Context) -> None:
    """Both show the same items; the table's notes, on stderr, name the snapshot that answered."""
    found = json.loads(run("query", "topk", "--user", "ada", "-k", "3", "--json").stdout)
    table = run("query", "topk", "--user", "ada", "-k", "3")
    lines = [line.split("\t") for line in table.stdout.splitlines()]
    assert lines[0] == ["", "item", "title", "score"]
    assert [line[1] for line in lines[1:]] == [item["item_id"] for item in found["items"]]
    assert found["snapshot"]["id"] == ids(directory)[-1]
    assert f"Snapshot {ids(directory)[-1]} of silu (latest)" in table.stderr
    assert context.memory.closed
    seen = json.loads(run("query", "topk", "--user", "ada", "-k", "99", "--include-seen", "--json").stdout)
    assert len(seen["items"]) == 19
    assert "By popularity: user unknown." in run("query", "topk", "--user", "bob").stderr


def test_top_k_of_a_sequence_needs_no_store(run: Run, directory: Path, context: Context) -> None:
    """The items given stand for a user's sequence."""
    found = json.loads(run("query", "topk", "--sequence", "i1,i2", "--json").stdout)
    assert (found["user"], found["tokens"]) == (None, 2)
    assert context.memory.asked == []
    assert "for" not in run("query", "topk", "--sequence", "i1").stderr.split("Snapshot")[0]
    assert json.loads(run("query", "topk", "--sequence", "i1,y,x,y", "--json").stdout)["unknown"] == ["y", "x"]
    assert "The snapshot does not know: y, x.\n" in run("query", "topk", "--sequence", "i1,y,x,y").stderr
    many = ",".join(f"y{number}" for number in range(12))
    assert "y8, y9 and 2 more." in run("query", "topk", "--sequence", many).stderr


def test_ranking_prints_probabilities_and_notes(run: Run, directory: Path) -> None:
    """There is a column for each action; withdrawn and unknown items are marked."""
    result = run("query", "rank", "--user", "ada", "--items", "i2,x,i6,i5")
    header, *lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert header == ["", "item", "title", "score", "click", "like", "note"]
    assert [(line[1], line[-1]) for line in lines[2:]] == [("i6", "withdrawn"), ("x", "unknown")]
    assert "Ordered by mean action probability." in result.stderr
    found = json.loads(run("query", "rank", "--user", "ada", "--items", "i2,x,i6,i5", "--json").stdout)
    assert [item["item_id"] for item in found["items"]] == [line[1] for line in lines]
    popular = run("query", "rank", "--user", "bob", "--items", "i2,x")
    assert popular.stdout.splitlines()[0] == "\titem\ttitle\tscore\tnote"


def test_queries_go_to_the_snapshot_that_is_named(run: Run, directory: Path, tmp_path: Path) -> None:
    """By alias, by id, by trainer and by data directory."""
    move(directory, "champion", ids(directory)[0])
    for flags, step in ((["--alias", "champion"], 1), (["--alias", ids(directory)[1]], 2)):
        found = json.loads(run("query", "topk", "--user", "ada", "--json", *flags).stdout)
        assert found["snapshot"]["step"] == step
    write_model(tmp_path / "other" / "snapshots" / "softmax", 8)
    other = ["--data-dir", str(tmp_path / "other"), "--name", "softmax"]
    assert json.loads(run("query", "topk", "--user", "ada", "--json", *other).stdout)["snapshot"]["step"] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["query", "topk"], "Give one of --user, --users and --sequence"),
        (["query", "topk", "--user", "a", "--sequence", "b"], "Give one of --user, --users and --sequence"),
        (["query", "rank", "--items", "i1"], "Give either --user or --users"),
        (["query", "topk", "--user", "ada", "--feature", "War"], "give name=value, such as genre=Drama"),
        (["query", "topk", "--user", "ada", "--allow", ""], "allow names no item; leave it out for all items"),
        (["query", "similar", "--item", "x"], "does not know the item 'x'"),
        (["query", "topk", "--user", ""], "user is empty"),
        (["query", "topk", "--user", "ada", "-k", "0"], "k is 0; give a number of items from 1 to 1,000"),
        (["query", "rank", "--user", "ada", "--items", ""], "items has 0 item ids"),
        (["query", "topk", "--users", "u," * 20 + "u", "-k", "1000"], "21 users with 1,000 items each"),
    ],
)
def test_a_bad_query_is_refused_by_a_sentence(arguments: list[str], sentence: str, run: Run, directory: Path) -> None:
    """The command raises the error that the main command prints."""
    with pytest.raises(QueryError, match=sentence):
        run(*arguments)


def test_filters_and_batches(run: Run, directory: Path) -> None:
    """As over HTTP; several users are one document, or one table after another."""

    def document(*arguments: str) -> Any:
        return json.loads(run("query", *arguments, "--json").stdout)

    found = document("topk", "--user", "ada", "--allow", "i7,i8,i9", "--deny", "i8")
    assert {item["item_id"] for item in found["items"]} == {"i7", "i9"}
    assert document("topk", "--user", "ada", "--feature", "genre=War")["items"] == []
    said = run("query", "topk", "--user", "ada", "--feature", "genre=War").stderr
    assert "Fewer than were asked for: no item of the catalogue has a feature 'genre'" in said
    assert len(document("topk", "--sequence", "i1", "--diversity", "0.9", "-k", "3")["items"]) == 3
    answers = document("topk", "--users", "ada,bob", "-k", "2")["answers"]
    assert [(one["user"], len(one["items"])) for one in answers] == [("ada", 2), ("bob", 2)]
    assert len(run("query", "topk", "--users", "ada,bob", "-k", "2").stdout.splitlines()) == 6
    ranked = document("rank", "--users", "ada,bob", "--items", "i2,i5")["answers"]
    assert [one["source"] for one in ranked] == ["model", "popularity"]


def test_reasons_are_printed(run: Run, directory: Path, context: Context) -> None:
    """A table of the scores' parts, and one of what each event moves, newest first."""
    arguments = ("query", "explain", "--user", "ada", "--items", "i2,i5", "--newest", "2")
    found = json.loads(run(*arguments, "--json").stdout)
    lines = [line.split("\t") for line in run(*arguments).stdout.splitlines()]
    assert lines[0][:4] == ["item", "title", "score", "encoder"]
    assert [line[0] for line in lines[1:3]] == [item["item_id"] for item in found["items"]] == ["i2", "i5"]
    assert lines[3] == ["event", "item", "what", "i2", "i5"]
    assert [line[1] for line in lines[4:]] == [event["title"] for event in found["events"]]
    assert f"{found['items'][1]['changes'][0]:.4f}" == lines[4][4]
    assert "By popularity" in run("query", "explain", "--user", "bob", "--items", "i2").stderr
    assert run("query", "explain", "--user", "ada", "--items", "zz").stdout.splitlines()[0].startswith("item\ttitle")
    assert context.memory.closed


def test_deltas_are_followed_as_by_a_server(run: Run, directory: Path) -> None:
    """What `latest` answers is the newest state; an id means its snapshot alone. The list shows the deltas."""
    newest = load_snapshot(directory / ids(directory)[-1])
    arrays, log = dict(newest.arrays), DeltaLog(directory, 0.0)
    log.begin(newest.manifest.id, arrays, newest.manifest)
    arrays["items.weight"] = -arrays["items.weight"]
    log.append(arrays, replace(newest.manifest, step=4))

    def asked(*flags: str) -> Any:
        return json.loads(run("query", "topk", "--user", "ada", "--json", *flags).stdout)

    assert asked()["snapshot"]["step"] == 4
    alone = asked("--alias", newest.manifest.id)
    assert alone["snapshot"]["step"] == 3
    assert alone["items"] != asked()["items"]
    listed = run("snapshots", "list")
    assert [line.split("\t")[-2] for line in listed.stdout.splitlines()] == ["deltas", "0", "0", "1"]
    assert f"Delta 1 to {newest.manifest.id} brings latest to step 4" in listed.stderr
    path = next((directory / "deltas" / newest.manifest.id).iterdir())
    whole = path.read_bytes()
    path.write_bytes(b"torn")
    assert asked()["snapshot"]["step"] == 3
    path.write_bytes(whole)
    log.append(arrays, replace(newest.manifest, step=5), becomes="00000005-9b3ac0fa")
    assert asked()["snapshot"]["step"] == 3
    assert "brings latest" not in run("snapshots", "list").stderr


def test_similar_items_and_freshness_need_no_store(run: Run, directory: Path, context: Context) -> None:
    """They are about no user."""
    lines = run("query", "similar", "--item", "i2", "-k", "3").stdout.splitlines()
    assert (lines[0], len(lines)) == ("\titem\ttitle\tcosine", 4)
    several = run("query", "similar", "--items", "i2,x,i3", "-k", "3")
    assert (several.stdout.splitlines()[:4], len(several.stdout.splitlines())) == (lines, 8)
    assert "'x'" in several.stderr
    assert len(json.loads(run("query", "similar", "--items", "i2,x", "--json").stdout)["answers"]) == 1
    with pytest.raises(QueryError, match="21 users are to be explained; give at most 20"):
        run("query", "explain", "--users", ",".join(21 * ["ada"]), "--items", "i9")
    for flags in ([], ["--item", "i2", "--items", "i3"]):
        with pytest.raises(QueryError, match="Give one of --item, --items and --user"):
            run("query", "similar", *flags)
    fresh = run("query", "freshness")
    assert fresh.stdout.splitlines()[0] == "made before\tbehind event time\tnow"
    assert f"Snapshot {ids(directory)[-1]}" in fresh.stderr
    assert json.loads(run("query", "freshness", "--json").stdout)["snapshot"]["step"] == 3
    assert context.memory.asked == []


def test_users_like_a_user(run: Run, directory: Path, context: Context) -> None:
    """Those that are named, or the first of the store; those without events are said."""
    context.memory.users["twin"] = context.memory.users["ada"]
    named = run("query", "similar", "--user", "ada", "--users", "nobody,twin")
    assert [line.split("\t") for line in named.stdout.splitlines()][1][1:3] == ["twin", "1.0000"]
    assert "Compared with 1 users." in named.stderr
    assert "The snapshot knows nothing of nobody." in named.stderr
    found = json.loads(run("query", "similar", "--user", "ada", "--json").stdout)
    assert "twin" in [one["user"] for one in found["users"]]
    context.memory.users = {}
    with pytest.raises(QueryError, match="No store on this host has users to compare with; name them by --users"):
        run("query", "similar", "--user", "ada")
    with pytest.raises(QueryError, match="--users are compared with a user; give --user"):
        run("query", "similar", "--item", "i1", "--users", "ada")


def test_a_log_that_has_ended_has_a_last_time(directory: Path) -> None:
    """Its last snapshot has the end of time as its watermark, yet is the one of any time after the last example."""
    write_model(directory, 7, watermark_ms=NOW_MS, event_ms=NOW_MS - 5)
    last = write_model(directory, 8, watermark_ms=END_OF_TIME_MS, event_ms=NOW_MS + 60_000)
    assert snapshot_as_of(directory, NOW_MS + 60_000) == last
    assert load_snapshot(snapshot_as_of(directory, NOW_MS)).manifest.step == 7


def test_a_question_as_of_an_earlier_time(run: Run, directory: Path, context: Context) -> None:
    """By the snapshot and the tokens of then; a time before all snapshots is refused, and what is no time."""
    base = NOW_MS - 60_000
    for step, minutes in ((7, 10), (8, 20)):
        write_model(directory, step, arrays=model_arrays(), watermark_ms=base + 60_000 * minutes)
    context.memory.users["ada"] = tokens_of("i1 click", "i2 click", "i3 click", end_ms=base + 60_000 * 17)

    def asked(*flags: str) -> Any:
        return json.loads(run("query", "topk", "--user", "ada", "-k", "99", "--json", *flags).stdout)

    then = asked("--as-of", str(base + 60_000 * 15))
    assert (then["snapshot"]["step"], then["tokens"], then["now_ms"]) == (7, 2, base + 60_000 * 15)
    assert {"i3"} == {item["item_id"] for item in then["items"]} - {item["item_id"] for item in asked()["items"]}
    iso = datetime.fromtimestamp((base + 60_000 * 25) / 1000, UTC).replace(tzinfo=None).isoformat()
    assert (asked("--as-of", iso)["snapshot"]["step"], asked("--as-of", iso)["tokens"]) == (8, 3)
    assert (
        json.loads(
            run(
                "query", "explain", "--user", "ada", "--items", "i9", "--as-of", str(base + 60_000 * 15), "--json"
            ).stdout
        )["snapshot"]["step"]
        == 7
    )
    assert asked("--as-of", "9007199254740991")["now_ms"] == 2**53 - 1
    ranked = run("query", "rank", "--user", "ada", "--items", "i9", "--as-of", iso, "--json")
    assert json.loads(ranked.stdout)["snapshot"]["step"] == 8
    for flags, sentence in (
        (["--as-of", "1000"], "is as old as 1970-01-01 00:00:01; the oldest is of 2023-"),
        (["--as-of", "9" * 19], "--as-of is 9999999999999999999; give at most 9007199254740991 ms"),
        (["--as-of", "9007199254740992"], "give at most 9007199254740991 ms"),
        (["--as-of", "yesterday"], "--as-of is 'yesterday'; give ms since 1970, or a time such as"),
    ):
        with pytest.raises((ModelError, HstuError), match=sentence):
            asked(*flags)
    with pytest.raises(QueryError, match="--as-of is about a user's events"):
        run("query", "topk", "--sequence", "i1", "--as-of", "1000")
