import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from model.config import Activation
from model.distributed.ranks import ALONE
from model.errors import ModelError
from model.storage.aliases import LATEST
from model.trainer.run import Origin
from stream.example import DEFAULT_BOUNDS
from stream.kafka.connection import Kafka
from tests.model.commands import Context, Run


def test_without_snapshots_every_verb_says_so(run: Run) -> None:
    """One sentence, which names the verb that makes the first snapshot."""
    for arguments in (
        ["query", "topk", "--user", "ada"],
        ["query", "rank", "--user", "ada", "--items", "i1"],
        ["query", "explain", "--user", "ada", "--items", "i1"],
        ["query", "similar", "--item", "i1"],
        ["query", "freshness"],
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
    assert named.pop("ranks") is ALONE
    assert named == {
        **{"topic_prefix": "", "partitions": 4, "bounds": DEFAULT_BOUNDS},
        **{"until_end": True, "live": True, "origin": Origin("s1", 7)},
    }
    assert quiet["origin"] is None
    run("train", "--since", "7")
    assert trained[-1][1]["origin"] == Origin("", 7)
    assert (train.name, model.attention, quiet["until_end"], quiet["live"]) == ("silu", "silu", False, False)


def test_a_variant_trains_under_its_own_name(run: Run, trained: list[tuple[Any, ...]]) -> None:
    """Without --name, --attention names the run, so that two variants never share a folder."""
    run("train", "--attention", "softmax")
    assert trained[0][0][0].name == "softmax"


def test_a_model_shorter_than_its_examples_is_refused(
    run: Run, trained: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, not at the first long example; the sentence names both settings."""
    monkeypatch.setenv("HSTU_MODEL__MAX_LEN", "64")
    with pytest.raises(ModelError, match=r"model\.max_len = 64 is less than stream\.example_tokens = 512"):
        run("train")
    assert not trained
    monkeypatch.setenv("HSTU_STREAM__EXAMPLE_TOKENS", "64")
    run("train")
    assert len(trained) == 1


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
    ((settings, data_dir, sequences, letters),) = calls
    assert (settings.host, settings.port, settings.name, settings.alias) == ("::1", 9, "n", "champion")
    assert (data_dir, sequences, context.memory.closed) == (tmp_path, context.memory, True)
    assert letters is None


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
