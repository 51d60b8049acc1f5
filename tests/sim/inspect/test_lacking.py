"""What a log lacks: said by what its cells hold, with what to do."""

import re
from pathlib import Path
from typing import Any

import pytest

from sim.errors import SimError

T = 1_700_000_000


def test_an_access_log_is_no_table(tmp_path: Path, inspected: Any) -> None:
    """No column of it is named, as any separator cuts it wrongly."""
    path = tmp_path / "access.log"
    line = '10.0.0.{} - u43 [31/Jan/2024:00:00:00 +0000] "GET /a HTTP/1.1" 200 14 "https://shop/" "X (Y; Z)"'
    path.write_text("".join(line.format(n) + "\n" for n in range(9)))
    said = inspected(str(path))
    assert "look like those of a web server's access log" in said
    assert "--time 1" not in said
    said = inspected(str(path), separator="space")
    assert "Its times as they are: --time 4 --time-offset 5 --time-format '[%d/%b/%Y:%H:%M:%S %z]'." in said
    path.write_text(path.read_text().replace("+0000", "+0200"))
    named = {"separator": "space", "user": "1", "item": "6", "time": "4"}
    flags = named | {"time_offset": "5", "time_format": "[%d/%b/%Y:%H:%M:%S %z]"}
    assert "from 2024-01-30 22:00:00" in inspected(str(path), **flags)
    flags = named | {"time_format": "[%d/%b/%Y:%H:%M:%S"}
    assert "Column '5' looks like the time zone of '4', and is not read" in inspected(str(path), **flags)


OBJECT = '{{"user_id": "u{0}", "item_id": "i{0}", "ts": 17000000{0}}}'


@pytest.mark.parametrize(
    ("name", "header", "row", "said"),
    [
        (
            "log.txt",
            "",
            "CreateTime:17000000{0}000\tu{0}\t" + OBJECT,
            "column '3': objects of JSON in cells .* cut -f3 LOG",
        ),
        (
            "log.csv",
            "user_id,ts,properties",
            'u{0},17000000{0},"{{""item"": ""i{0}"", ""n"": 1}}"',
            "mlr --icsv --ojsonl",
        ),
        (
            "log.csv",
            "user_id,item_id,at",
            "u{0},i,2024-01-31 10:00:{0} PST",
            r"'at'.* \(PST names a zone.* by --time-zone",
        ),
        ("log.csv", "user_id,item_id,at", "u{0},i,/Date(17000000{0}000)/", r"'at'.* \(write the number inside"),
        (
            "log.csv",
            "user_id,item_id,host",
            "u{0},i,10.0.0.{0}",
            "No column holds times; without them rows have no order",
        ),
        ("log.csv", "a,b", "{0:08x}-ad4c-4a6c-b8a0-000000000000,{0}", "No column holds times; without them"),
        ("log.csv", "user_id,ts,shown,clicked", "u{0},17000000{0},a|b|c,b", r"what was shown \(shown\) by --shown"),
        ("log.csv", "user_id,clicked_id,ts,shown,", "u{0},i{0},17000000{0},a|b|c,", "No column is plainly the item"),
    ],
)
def test_there_is_a_way_on(tmp_path: Path, inspected: Any, name: str, header: str, row: str, said: str) -> None:
    """Named by what cells hold, and none where there is none."""
    path = tmp_path / name
    path.write_text("\n".join([*([header] if header else []), *(row.format(n) for n in range(10, 40))]))
    found = inspected(str(path))
    assert re.search(said, found), found
    assert "perhaps" not in found or "'at'" in found


def test_rows_longer_than_their_header_can_be_cut(tmp_path: Path, inspected: Any) -> None:
    """As those of JODIE's data sets, whose last name is that of a list."""
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,ts,features\n" + "".join(f"u{n},i,{T + n},0,1,2\n" for n in range(9)))
    with pytest.raises(SimError, match=r"All 9 rows are bad. cut -d, -f1-4 LOG > log.csv keeps the first 4 cells"):
        inspected(str(path))
