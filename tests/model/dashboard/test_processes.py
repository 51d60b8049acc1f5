"""Workers and trainers as they are scraped: real metrics servers, and addresses where none is."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from model.dashboard.processes import Processes
from model.dashboard.scrape import Scrape, addresses
from model.storage.checkpoint import say_farewell, take_back_farewell
from stream.metrics_server import Health, serve_metrics
from tests.odd_server import Way, answering

RUNS = Path("no-runs")


class WorkerLike:
    """Collects what a worker of two partitions would."""

    events, lags = 100.0, (3, 4)

    def collect(self) -> Iterator[Any]:
        families = (
            (CounterMetricFamily("hstu_events", "", labels=["partition"]), (self.events, 1)),
            (GaugeMetricFamily("hstu_lag", "", labels=["partition"]), self.lags),
            (GaugeMetricFamily("hstu_watermark_delay_seconds", "", labels=["partition"]), (30, 90)),
        )
        for family, values in families:
            for number, value in enumerate(values):
                family.add_metric([str(number)], value)
            yield family
        yield GaugeMetricFamily("hstu_partitions", "", value=4)
        yield GaugeMetricFamily("hstu_open_partitions", "", value=2)
        letters = CounterMetricFamily("hstu_dead_letters", "", labels=["reason", "partition"])
        for reason, number in (("late", "0"), ("late", "1"), ("invalid", "1")):
            letters.add_metric([reason, number], 2)
        yield letters


class TrainerLike:
    """Collects what a trainer would."""

    def collect(self) -> Iterator[Any]:
        steps = CounterMetricFamily("hstu_steps", "", labels=["trainer"])
        steps.add_metric(["silu"], 9)
        yield steps
        yield GaugeMetricFamily("hstu_lag_records", "", value=7)
        yield GaugeMetricFamily("hstu_waiting_records", "", value=1631)


def registry(collector: Any) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(collector)
    return made


@contextmanager
def served(registry: CollectorRegistry) -> Iterator[str]:
    port, stop = serve_metrics(registry, "127.0.0.1", 0, Health(), "a setting")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stop()


def test_processes_are_told_apart() -> None:
    """A worker by its events, a trainer by its name, one that does not answer by nothing."""
    worker, now_s = WorkerLike(), [10.0]
    with ExitStack() as stack:
        names = [stack.enter_context(served(registry(one))) for one in (worker, TrainerLike())] + ["127.0.0.1:1"]
        processes = Processes(names, RUNS, clock=lambda: now_s[0])
        first = processes.look()
        worker.events, now_s[0] = 150.0, 12.0
        second = processes.look()
    assert [one["kind"] for one in first] == ["worker", "trainer", None]
    assert (first[0]["events_per_s"], second[0]["events_per_s"]) == (None, 25)
    assert (first[0]["lag"], first[0]["watermark_delay_s"], first[0]["dead_letters"]) == (
        7,
        90,
        {"late": 4, "invalid": 2},
    )
    assert (first[1]["name"], first[1]["lag"], first[1]["waiting"]) == ("silu", 7, 1631)


def test_one_name_may_stand_for_several_hosts() -> None:
    """Each address is scraped once; a name that nobody knows stays, so that it is shown as not answering."""
    assert addresses("127.0.0.1:9") == ["127.0.0.1:9"]
    assert addresses("[::1]:9") == ["[::1]:9"]
    assert set(addresses("localhost:9")) <= {"127.0.0.1:9", "[::1]:9"}
    for wrong in ("nobody.invalid:9", "no-port", "host:port"):
        assert addresses(wrong) == [wrong]
    assert Processes(["no-port"], RUNS).look() == [{"address": "no-port", "kind": None}]


@pytest.mark.parametrize("events", [50.0, 100.0])
def test_a_rate_never_falls_below_zero(events: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a store has been made anew the rate is unknown; where time stands still as well."""
    worker = WorkerLike()
    with served(registry(worker)) as name:
        processes = Processes([name], RUNS, clock=iter((1.0, 2.0 if events < 100 else 1.0)).__next__)
        processes.look()
        worker.events = events
        assert processes.look()[0]["events_per_s"] is None


def test_what_a_store_had_counted_before_is_no_event_of_now() -> None:
    """A partition that comes brings what was counted elsewhere; the rate is that of those there before."""
    families, now_s = {"0": 100.0}, [1.0]

    class Growing:
        def collect(self) -> Iterator[Any]:
            yield GaugeMetricFamily("hstu_partitions", "", value=2)
            yield GaugeMetricFamily("hstu_open_partitions", "", value=len(families))
            events = CounterMetricFamily("hstu_events", "", labels=["partition"])
            for number, value in families.items():
                events.add_metric([number], value)
            yield events

    with served(registry(Growing())) as name:
        processes = Processes([name], RUNS, clock=lambda: now_s[0])
        processes.look()
        families.update({"0": 120.0, "1": 9000.0})
        now_s[0] = 3.0
        assert processes.look()[0]["events_per_s"] == 10
        families.clear()
        idle = processes.look()[0]
    assert (idle["kind"], idle["partitions"], idle["open"], idle["events"], idle["lag"]) == ("worker", 2, 0, 0, 0)


def test_a_lag_that_is_partly_known_is_unknown() -> None:
    """Kafka does not say that of one of two partitions: the sum of the others is not the lag."""
    worker = WorkerLike()
    worker.lags = (3,)  # type: ignore[assignment]
    with served(registry(worker)) as name:
        assert Processes([name], RUNS).look()[0]["lag"] is None


@pytest.mark.parametrize(
    ("said", "kind"),
    [("ended", "ended"), ("stopped", "stopped"), ("diverged", "diverged"), (None, "lost"), ("?", "lost")],
)
def test_a_silent_trainer_is_shown_as_it_said_farewell(said: str | None, kind: str, tmp_path: Path) -> None:
    """One that crashed has said nothing. A worker does not end by itself, so its silence is a fault."""
    with ExitStack() as stack:
        names = [stack.enter_context(served(registry(one))) for one in (WorkerLike(), TrainerLike())]
        processes = Processes(names, tmp_path)
        processes.look()
    (tmp_path / "silu").mkdir()
    if said:
        say_farewell(tmp_path / "silu", said)
    worker, trainer = processes.look()
    assert worker["kind"] is None
    assert worker["silent_s"] >= 0
    assert (trainer["kind"], trainer["name"]) == (kind, "silu")


def test_a_trainer_that_hangs_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address takes connections, and answers none in time; how long it has been silent is told."""
    now_s = [1.0]
    with served(registry(TrainerLike())) as name:
        processes = Processes([name], RUNS, clock=lambda: now_s[0])
        processes.look()
    monkeypatch.setattr("model.dashboard.processes.TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", int(name.rpartition(":")[2]))):
        now_s[0] = 13.0
        assert processes.look() == [{"address": name, "kind": "silent", "name": "silu", "silent_s": 12}]
    assert processes.look()[0]["kind"] == "lost"


def test_a_trainer_that_was_gone_before_is_known_by_its_farewell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By host and port; what is silent elsewhere stays unknown, and so does a trainer that has begun again."""
    for name, port in (("other", 0), ("silu", 1)):
        (tmp_path / name).mkdir()
        say_farewell(tmp_path / name, "ended", port)
    processes = Processes(["127.0.0.1:1", "127.0.0.1:2"], tmp_path)
    assert processes.look() == [
        {"address": "127.0.0.1:1", "kind": "ended", "name": "silu"},
        {"address": "127.0.0.1:2", "kind": None},
    ]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "another-host")
        assert processes.look()[0]["kind"] is None
        say_farewell(tmp_path / "other", "stopped", 1)
    names = [one.get("name") for one in Processes(["127.0.0.1:1", "another-host:1"], tmp_path).look()]
    assert names == ["silu", "other"]
    take_back_farewell(tmp_path / "silu")
    assert processes.look()[0]["kind"] is None


def test_silent_processes_are_waited_for_together() -> None:
    """Six that take the connection and never answer cost one timeout."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
        names = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        begun_s = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("model.dashboard.processes.TIMEOUT_S", 0.2)
            assert [one["kind"] for one in Processes(names, RUNS).look()] == [None] * 6
        assert time.monotonic() - begun_s < 0.9


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


@pytest.mark.parametrize(
    ("answer", "way"),
    [
        (OK + b'\r\n<html><body class="x">hello</body></html>', "at once"),
        (OK + b"\r\nhstu_events_total{a=", "at once"),
        (OK + b"\r\nhstu_events_total abc\n", "at once"),
        (OK + b"\r\n\xff\xfe\n", "at once"),
        (OK + b"Content-Length: 400\r\n\r\nhstu_events_total 1\n", "at once"),
        (b"\x15\x03\x03\x00\x02\x02\x46garbage\r\n", "at once"),
        (b"HTTP/1.1 404 No\r\n\r\nhstu_events_total 1\n", "at once"),
        (OK + b"\r\n" + b"#" * 500, "trickling"),
        (OK + b"\r\n#", "endless"),
    ],
)
def test_what_is_no_process_of_ours_hides_no_other(answer: bytes, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as one that does not answer, after the timeout at the latest, beside those that do."""
    monkeypatch.setattr("model.dashboard.processes.TIMEOUT_S", 0.3)
    monkeypatch.setattr("model.dashboard.scrape._MOST_BYTES", 1 << 20)
    with answering(answer, way) as (url, _), served(registry(WorkerLike())) as name:
        began_s = time.monotonic()
        odd, worker = Processes([url.removeprefix("http://"), name], RUNS).look()
        assert time.monotonic() - began_s < 2
    assert (odd["kind"], worker["kind"]) == (None, "worker")


def test_a_figure_that_json_lacks_is_none() -> None:
    """NaN and infinity would make a whole event of the page unreadable."""
    scrape = Scrape('a 1\na{b="c"} NaN\nd{e="f"} +Inf\n')
    assert (scrape.total("a"), scrape.total("d"), scrape.largest("d"), scrape.by("d", "e")) == (1, None, None, {})


def test_a_name_that_is_known_no_more_stands_for_the_addresses_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a trainer whose name has left DNS is still the trainer that has answered there."""
    with served(registry(TrainerLike())) as address:
        known = {"trainer:1": [address]}
        monkeypatch.setattr("model.dashboard.processes.addresses", lambda name: known.get(name, [name]))
        processes = Processes(["trainer:1", "never:1"], RUNS)
        assert [one["kind"] for one in processes.look()] == ["trainer", None]
        known.clear()
        assert [one["kind"] for one in processes.look()] == ["trainer", None]
    gone, never = processes.look()
    assert (gone["kind"], gone["address"], never["address"]) == ("lost", address, "never:1")
