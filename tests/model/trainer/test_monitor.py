import logging
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.trainer.monitor import Monitor
from stream.errors import HstuError
from stream.metrics_server import STALE_S
from tests.runs import run, start


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the report of a whole run."""
    training = run(start(tmp_path_factory.mktemp("run")))
    training.close()
    return training.report


def test_metrics_are_served_while_it_is_open(report: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """At the address that is logged, with the newest report and its lag."""
    monitor = Monitor(report, live=False)
    with caplog.at_level(logging.INFO), monitor.open("127.0.0.1", 0):
        url = re.search(r"http://\S+", caplog.text)[0]
        monitor.show(report, lag=7)
        text = httpx.get(url).text
        assert f'hstu_learned_examples_total{{trainer="{report["name"]}"}} {report["examples"]:.1f}' in text
        assert f'hstu_lag_records{{trainer="{report["name"]}"}} 7.0' in text
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_port_that_is_taken_is_a_sentence(report: dict[str, Any]) -> None:
    """The sentence names the address and the setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(HstuError, match=rf"cannot be served on 127.0.0.1:{port}: .*another train.metrics_port"),
            Monitor(report, live=False).open("127.0.0.1", port),
        ):
            pass


def test_without_a_table_a_line_is_logged_every_ten_seconds(
    report: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, step and examples, whatever the number of reports; every ten minutes while nothing is learned."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monitor = Monitor(report, live=False)
    with caplog.at_level(logging.INFO):
        for second in range(1, 26):
            clock[0] = float(second)
            monitor.show(report | {"step": second // 10})
        for second in range(26, 700):
            clock[0] = float(second)
            monitor.show(report | {"step": 2})
    assert [record.getMessage() for record in caplog.records] == [
        "Trainer silu: step 1, 75 examples.",
        "Trainer silu: step 2, 75 examples.",
        "Trainer silu: step 2, 75 examples. Nothing new has come for 600 s.",
    ]


def test_the_wait_for_the_first_example_says_what_to_look_at(
    report: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of counts of 0."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monitor = Monitor(report, live=False)
    clock[0] = 11.0
    with caplog.at_level(logging.INFO):
        monitor.show(report | {"step": 0, "examples": 0, "waiting": 0})
    (line,) = caplog.messages
    assert line == "Trainer silu: waiting for the first example: is a worker running, has anything been sent?"


@pytest.mark.parametrize(
    ("compiles", "waiting", "line"),
    [
        (True, 0, "compiling the loops of the first step, or waiting for a process that does."),
        (False, 925, "the first step waits for examples of all partitions; 925 records are read."),
    ],
)
def test_the_wait_for_the_first_step_is_told_from_one_for_examples(
    compiles: bool,
    waiting: int,
    line: str,
    report: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where examples have come, nobody is sent to look for a worker; while loops are compiled, the trainer is alive."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr("model.arrays.jit._turn.depth", int(compiles))
    monitor = Monitor(report, live=False)
    clock[0] = 11.0
    with caplog.at_level(logging.INFO):
        monitor.show(report | {"step": 0, "examples": 0, "waiting": waiting, "waits_for": None})
    assert caplog.messages == [f"Trainer silu: {line}"]
    began_s = monitor.health._clock()
    monkeypatch.setattr(monitor.health, "_clock", lambda: began_s + STALE_S)
    assert monitor.health.alive == compiles


def test_the_last_line_has_what_came_of_it(report: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Steps, examples, HR@10 of the model and of the best other scorer, however short the run was; no table."""
    figures = {"hstu": 0.25, "encoder": 0.125, "stack": 0.3, "popularity": 0.2, "last_items": 0.0}
    retrieval = {name: {"total": {"all": {"targets": 1200, "hr@10": value}}} for name, value in figures.items()}
    monitor = Monitor(report, live=False)
    with caplog.at_level(logging.INFO):
        monitor.end(report | {"retrieval": report["retrieval"] | retrieval})
        nothing = {name: {"total": {"all": {"targets": 0, "hr@10": None}}} for name in figures}
        monitor.end(report | {"step": 0, "examples": 0, "retrieval": nothing})
    assert caplog.messages == [
        "Trainer silu has ended: step 10, 75 examples; HR@10 0.2500 of 1,200 targets, "
        "counters (the best other) 0.3000.",
        "Trainer silu has ended: step 0, 0 examples, no targets.",
    ]


def test_the_live_table_is_drawn_with_the_lag(report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The last report stays on the terminal."""
    monitor = Monitor(report, live=True)
    with monitor.open("127.0.0.1", 0):
        monitor.show(report, lag=5)
    assert "silu: step 10" in capsys.readouterr().out


def test_a_report_is_only_shown_never_changed(report: dict[str, Any], tmp_path: Path) -> None:
    """It comes from another thread, and may be shown again."""
    before = dict(report)
    Monitor(report, live=False).show(report)
    assert report == before


def test_the_partition_that_holds_the_others_up_is_named(
    report: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has done so for long, and not as long as its clock moves; with what to look at."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monitor = Monitor(report, live=False)
    for now_s[0], clock_ms in ((0.0, 1), (29.0, 2), (58.0, 2), (60.0, 2)):
        assert "wait for partition" not in caplog.text
        monitor.show({**report, "waits_for": {"topic": "examples", "partition": 3, "clock_ms": clock_ms}}, 7)
    assert "All wait for partition 3 of examples, which has brought nothing for 30 s" in caplog.text


def test_a_trainer_that_compiles_says_of_no_partition_that_it_brings_nothing(
    report: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has come meanwhile is not read yet; it begins to count afterwards."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monitor = Monitor(report, live=False)
    for now_s[0], depth in ((0.0, 1), (90.0, 1), (100.0, 0), (119.0, 0)):
        monkeypatch.setattr("model.arrays.jit._turn.depth", depth)
        monitor.show({**report, "waits_for": {"topic": "examples", "partition": 3, "clock_ms": 1}}, 7)
    assert "wait for partition" not in caplog.text


def test_a_trainer_that_hears_nothing_of_kafka_blames_no_partition(
    report: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody brings anything while Kafka is silent."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    monitor = Monitor(report, live=False)
    for now_s[0] in (0.0, 29.0, 58.0, 90.0):
        monitor.show({**report, "waits_for": {"topic": "examples", "partition": 3, "clock_ms": 1}}, None)
    assert "wait for partition" not in caplog.text
