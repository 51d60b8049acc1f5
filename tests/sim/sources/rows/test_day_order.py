"""Day and month in two orders."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log

HEAD = "user_id,item_id,ts\n"


def written(folder: Path, first: str, second: str) -> list[str]:
    """Write two files of March, one until its 10th day, one from then on, each in its order of {d} and {m}."""
    for name, order, days in (("a.csv", first, range(1, 10)), ("b.csv", second, range(10, 32))):
        cells = (order.format(d=f"{day:02}", m="03") for day in days)
        rows = (f"u{n},i{n},{cell}/2024 10:{n:02}" for n, cell in enumerate(list(cells) * 2))
        (folder / name).write_text(HEAD + "\n".join(rows) + "\n")
    return [str(folder / "a.csv"), str(folder / "b.csv")]


@pytest.mark.parametrize(("first", "second"), [("{d}/{m}", "{m}/{d}"), ("{m}/{d}", "{d}/{m}")])
def test_files_of_two_orders_are_refused(tmp_path: Path, first: str, second: str) -> None:
    """Though one order fits all; a flag decides."""
    files = written(tmp_path, first, second)
    with pytest.raises(SimError, match=r"holds '0.*/2024 10:0.' among times .*: no order of day and month is sure"):
        open_log(files, {})
    form = second.replace("{", "%").replace("}", "") + "/%Y %H:%M"
    assert open_log(files, {"time_format": form}).summary.rows == 62


@pytest.mark.parametrize("order", ["{d}/{m}", "{m}/{d}"])
def test_files_of_one_order_are_read(tmp_path: Path, order: str) -> None:
    """Also where the first alone may be of either."""
    log = open_log(written(tmp_path, order, order), {})
    assert log.last_ms - log.first_ms < 31 * 86_400_000
