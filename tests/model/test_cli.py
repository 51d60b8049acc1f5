import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from model.cli import _split
from model.config import Activation
from model.errors import ModelError
from model.serving.responses import QueryError
from model.storage.aliases import LATEST, move
from model.trainer.run import Origin
from stream.example import DEFAULT_BOUNDS
from stream.kafka.connection import Kafka
from tests.model.commands import Context, Run, ids
from tests.served import write_model


def test_an_id_with_a_comma_stands_in_quotes() -> None:
    """As in CSV; other quotes are letters."""
    assert _split('"a,b",c,5" screen') == ["a,b", "c", '5" screen']


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
        (["query", "topk"], "Give either --user or --sequence"),
        (["query", "topk", "--user", "a", "--sequence", "b"], "Give either --user or --sequence"),
        (["query", "topk", "--user", ""], "user is empty"),
        (["query", "topk", "--user", "ada", "-k", "0"], "k is 0; give a number of items from 1 to 1,000"),
        (["query", "rank", "--user", "ada", "--items", ""], "items has 0 item ids"),
    ],
)
def test_a_bad_query_is_refused_by_a_sentence(arguments: list[str], sentence: str, run: Run, directory: Path) -> None:
    """The command raises the error that the main command prints."""
    with pytest.raises(QueryError, match=sentence):
        run(*arguments)


def test_without_snapshots_every_verb_says_so(run: Run) -> None:
    """One sentence, which names the verb that makes the first snapshot."""
    for arguments in (
        ["query", "topk", "--user", "ada"],
        ["query", "rank", "--user", "ada", "--items", "i1"],
        ["snapshots", "show"],
        ["snapshots", "diff", "a", "b"],
        ["snapshots", "alias", "champion", LATEST],
        ["snapshots", "rollback", LATEST],
        ["snapshots", "gc", "--keep", "3"],
    ):
        with pytest.raises(ModelError, match=r"There is no snapshot in hstu-data/snapshots/silu yet; `hstu train`"):
            run(*arguments)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments with which run_trainer was called, in place of calling it."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr("model.trainer.kafka.run_trainer", lambda *arguments, **named: calls.append((arguments, named)))
    return calls


def test_train_hands_its_flags_to_the_trainer(
    run: Run, trained: list[tuple[Any, ...]], tmp_path: Path, context: Context
) -> None:
    """Every flag arrives; what was not given has its default; and Kafka is looked for first."""
    flags = ["--name", "s2", "--attention", "softmax", "--until-end", "--bootstrap", "h:1", "--threads", "2"]
    flags += ["--weights-from", "s1", "--since", "7"]
    run("train", *flags, "--device", "cpu", "--data-dir", str(tmp_path / "d"), "--live")
    assert context.kafkas == [Kafka("h:1")]
    run("train")
    (first, named), ((train, model, *_), quiet) = trained
    assert (first[0].name, first[0].threads, first[0].device, first[1].attention) == ("s2", 2, "cpu", "softmax")
    assert first[2:] == (tmp_path / "d", Kafka("h:1"))
    assert named == {
        **{"topic_prefix": "", "partitions": 4, "bounds": DEFAULT_BOUNDS},
        **{"until_end": True, "live": True, "origin": Origin("s1", 7)},
    }
    assert quiet["origin"] is None
    with pytest.raises(ModelError, match="--since belongs to --weights-from"):
        run("train", "--since", "7")
    assert (train.name, model.attention, quiet["until_end"], quiet["live"]) == ("silu", "silu", False, False)


def test_a_variant_trains_under_its_own_name(run: Run, trained: list[tuple[Any, ...]]) -> None:
    """Without --name, --attention names the run, so that two variants never share a folder."""
    run("train", "--attention", "softmax")
    assert trained[0][0][0].name == "softmax"


def test_an_unknown_attention_lists_the_known(run: Run) -> None:
    """And the help of the flag names all there are."""
    with pytest.raises(ModelError, match=r"^There is no attention 'linear'; known are silu, silu_seen, softmax\.$"):
        run("train", "--attention", "linear")
    help_text = run("train", "--help").stdout
    assert all(name in help_text for name in get_args(Activation))


def test_serve_hands_its_flags_to_the_server(
    run: Run, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, port, name, alias and data directory arrive; the reader is closed when the server is down."""
    calls = []
    monkeypatch.setattr("model.serving.http.server.run_server", lambda *arguments: calls.append(arguments))
    run("serve", "--host", "::1", "--port", "9", "--name", "n", "--alias", "champion", "--data-dir", str(tmp_path))
    ((settings, data_dir, sequences),) = calls
    assert (settings.host, settings.port, settings.name, settings.alias) == ("::1", 9, "n", "champion")
    assert (data_dir, sequences, context.memory.closed) == (tmp_path, context.memory, True)


def test_the_commands_are_light() -> None:
    """Importing them costs no more than typer: help must be quick."""
    script = (
        "import sys, model.cli\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'fastapi', 'msgspec', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
