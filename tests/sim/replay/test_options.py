"""The flags of `hstu replay` as one object: what they say of a log, a stream and the settings."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.replay.options import ReplayOptions


def test_only_what_was_given_overrules_a_logs_defaults() -> None:
    """A flag of 0 is given, one of None is not."""
    options = ReplayOptions(records=3, log_flags={"user": "who", "shuffle_ties": 0, "positive_from": 0.0})
    assert options.of_log() == {"user": "who", "shuffle_ties": 0, "positive_from": 0.0}
    assert options.of_stream() == {"records": 3, "events": None, "seed": None}


def test_a_direct_run_is_named_after_its_attention_unless_it_has_a_name() -> None:
    """So that two attentions side by side do not share a folder."""
    for name, wanted in ((None, "softmax"), ("mine", "mine")):
        settings = ReplayOptions(direct=True, attention="softmax", name=name, metrics=Path("m.jsonl")).settings()
        assert (settings["train.name"], settings["model.attention"]) == (wanted, "softmax")
        assert settings["train.metrics_file"] == "m.jsonl"
    assert ReplayOptions(direct=True).settings()["train.metrics_file"] is None


def test_a_replay_into_kafka_sets_nothing_of_a_trainer() -> None:
    """Its name is the replay's own there."""
    options = ReplayOptions(name="mine", bootstrap="h:1", data_dir=Path("there"))
    assert options.settings() == {"bootstrap": "h:1", "data_dir": Path("there")}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ReplayOptions(direct=True, speed="10x"), r"^--direct always runs at full speed; remove --speed\.$"),
        (ReplayOptions(attention="silu"), "--attention and --metrics belong to --direct"),
        (ReplayOptions(metrics=Path("m")), "--attention and --metrics belong to --direct"),
        (ReplayOptions(speed="fast"), "--speed fast is no speed"),
    ],
)
def test_flags_that_contradict_one_another_are_refused(options: ReplayOptions, sentence: str) -> None:
    """A direct run has no speed; what belongs to a trainer belongs to --direct."""
    with pytest.raises(SimError, match=sentence):
        options.refuse_contradictions()


def test_what_goes_together_is_taken() -> None:
    """A speed into Kafka; full speed, an attention and a metrics file in this process."""
    ReplayOptions(speed="200/s").refuse_contradictions()
    ReplayOptions(direct=True, speed="max", attention="silu", metrics=Path("m")).refuse_contradictions()
