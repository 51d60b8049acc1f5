"""Names of zones in texts of times: never taken for UTC."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from sim.sources.tables.timestamps import TimeReader, TimeSettings
from sim.time_texts import abbreviations, names_zone
from tests.sim.sources.logs import log_of, triples

AT = 1_706_695_200  # 2024-01-31 10:00 UTC
LOG = "user_id,item_id,ts\nu,a,2024-01-31 02:00:00 PST\nu,b,2024-07-01 03:00:00 PDT\nu,c,2024-01-31 11:00:00 CET\n"


def seconds(texts: list[str], settings: TimeSettings) -> list[float | None]:
    """Return the seconds of texts, None for those that have a fault."""
    column = pl.Series("t", texts)
    ts_ms, faults = TimeReader(settings, column, "a.csv").read(column)
    wrong = [any(fault.wrong[row] for fault in faults) for row in range(len(texts))]
    return [None if bad else ms / 1000 for ms, bad in zip(ts_ms, wrong, strict=True)]


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S %Z", "%Y-%m-%d %H:%M:%S PST", "%Z %d.%m.%Y"])
def test_a_format_with_the_name_of_a_zone_needs_the_zone(tmp_path: Path, form: str) -> None:
    """Which strptime passes over: PST would be UTC."""
    with pytest.raises(
        SimError, match=r"abbreviation of a zone, which several may have.*--time-zone, as America/Los_Angeles"
    ):
        log_of(tmp_path / "log.csv", LOG, time="ts", time_format=form)
    for fine in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S UTC", "%d-%b-%Y", "%H:%M %z"):
        assert not names_zone(fine)


@pytest.mark.parametrize("form", [None, "%Y-%m-%d %H:%M:%S %Z"])
def test_with_its_zone_an_abbreviation_is_an_offset(tmp_path: Path, form: str | None) -> None:
    """Those of other zones are bad rows."""
    flags = {"time_zone": "America/Los_Angeles", "skip_bad": "1"} | ({"time_format": form} if form else {})
    log = log_of(tmp_path / "log.csv", LOG, **flags)
    assert triples(log) == [("u", "a", AT), ("u", "b", 1_719_828_000)]
    assert log.summary.bad.total() == 1
    with pytest.raises(SimError, match="is no time that can be read"):
        open_log([str(tmp_path / "log.csv")], {})


def test_abbreviations_of_two_offsets_are_none() -> None:
    """Moscow's MSK was three hours, and four."""
    assert abbreviations("Europe/Berlin") == {"CET": "+0100", "CEST": "+0200"}
    assert abbreviations("Asia/Kolkata") == {"IST": "+0530"}
    assert "MSK" not in abbreviations("Europe/Moscow")


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-31 11:00:00.000 Europe/Berlin",
        "2024-01-31T11:00:00+01:00[Europe/Berlin]",
        "2024-01-31T11:00[Europe/Berlin]",
        "2024-01-31 05:00:00 America/New_York",
        "Wed Jan 31 2024 11:00:00 GMT+0100 (Central European Standard Time)",
        "Wed Jan 31 2024 05:00:00 GMT-0500 (EST)",
    ],
)
def test_zones_that_are_sure_are_read(text: str) -> None:
    """As Trino, Java and JavaScript write them, whatever the zone of other times."""
    assert seconds([text], TimeSettings()) == seconds([text], TimeSettings(zone="Asia/Tokyo")) == [AT]


def test_a_zone_that_is_none_or_an_hour_left_out_is_no_time() -> None:
    """Others of the column are read, also by the clock of the format that programs write."""
    texts = ["2024-01-31 11:00 Europe/Berlin", "2024-03-31 02:30 Europe/Berlin", "2024-01-31 11:00 Europe/Nowhere"]
    assert seconds(texts, TimeSettings()) == [AT, None, None]
    assert seconds(["Wed Jan 31 02:00:00 PST 2024"], TimeSettings(zone="America/Los_Angeles")) == [AT]
    reader = TimeReader(TimeSettings(), pl.Series("t", texts[:1]), "a.csv")
    reader.read(pl.Series("t", [texts[0], "2024-01-31 11:00", f"{datetime(2024, 1, 31)}"]))
    assert reader.offsets == {True: 1, False: 2}
