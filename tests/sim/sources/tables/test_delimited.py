"""CSV and its kin as programs write them: what stands before the rows, separators, quotes, and ragged rows."""

import csv
import re
from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from sim.sources.roles.guess import sample_of
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.table import open_table
from tests.sim.sources.logs import START_S, log_of, triples

T = START_S
ROWS = f"user_id,item_id,ts\nu1,a,{T}\nu2,b,{T + 1}\n"
READ = [("u1", "a", T), ("u2", "b", T + 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", "sep=;\n" + ROWS.replace(",", ";")),
        ("log.csv", "sep=\t\n" + ROWS.replace(",", "\t")),
        ("log.csv", "# exported 2024-01-31\n\n# by bob, from the shop\n" + ROWS),
        ("log.csv", ROWS.replace("\n", ",\n").replace("ts,", "ts")),
        ("log.txt", ROWS.replace(",", " ")),
        ("log.tsv", re.sub(r"[^,\n]+", r'"\g<0>"', ROWS).replace(",", "\t")),
        ("log.csv", '# quoted "so"\n' + re.sub(r"[^,\n]+", r'"\g<0>"', ROWS)),
    ],
)
def test_what_programs_write_around_rows_is_none(tmp_path: Path, name: str, content: str) -> None:
    """Excel's separator line, comments, a separator at the end of rows, blanks, quotes in a TSV."""
    log = log_of(tmp_path / name, content)
    assert triples(log) == READ
    assert log.summary.read == 2


QUOTED = [f"'u1','a','x, y',{T}", f"'u2','b','',{T + 1}"]


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("header", ["user_id,item_id,what,ts\n", ""])
@pytest.mark.parametrize("name", ["log.tsv", "log.csv", "log.txt"])
def test_quotes_around_texts_alone_are_no_part_of_an_id(tmp_path: Path, name: str, header: str, quote: str) -> None:
    """As MySQL writes them, whether there is a header or not, NULL without quotes."""
    content = header + "\n".join(QUOTED) + f"\n\\N,'c','',{T + 2}\n"
    content = content.replace("x, y", "x; y" if name == "log.tsv" else "x, y").replace("'", quote)
    content = content.replace(",", "\t").replace(";", "\t") if name == "log.tsv" else content
    flags = {} if header else {"user": "1", "item": "2", "time": "4"}
    assert triples(log_of(tmp_path / name, content, **flags, skip_bad="1")) == READ


def test_a_phrase_in_quotes_is_a_phrase(tmp_path: Path) -> None:
    """In a column of a TSV others of which have none."""
    content = f'user_id\titem_id\tts\tquery\nu1\ta\t{T}\t"cheap shoes"\nu2\tb\t{T + 1}\tsocks 5"\n'
    assert triples(log_of(tmp_path / "log.tsv", content)) == READ


@pytest.mark.parametrize(("quote", "flags"), [('"', {}), ("", {"quote": '"'})])
def test_quotes_beside_a_long_separator_are_refused(tmp_path: Path, quote: str, flags: dict[str, str]) -> None:
    """Which would be a part of the ids; --quote none says that they are."""
    content = re.sub(r"[^,\n]+", rf"{quote}\g<0>{quote}", ROWS).replace(",", "::")
    with pytest.raises(SimError, match=r"Cells of .* have quotes around them and '::' between .*--quote none"):
        log_of(tmp_path / "log.csv", content, **flags)


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_bad_row_behind_comments_keeps_its_number(tmp_path: Path, quote: str) -> None:
    """Counted from the first row, whichever way the file is read."""
    with pytest.raises(SimError, match=r"Row 2 of .*is bad, fewer cells"):
        log_of(tmp_path / "log.csv", f"# a\n# b\nuser_id,item_id,ts\n{quote}u1{quote},a,{T}\nu2\n")


def test_a_header_and_a_row_may_begin_with_a_hash(tmp_path: Path) -> None:
    """They have as many cells as the rows."""
    named = {"user": "#user", "item": "item", "time": "ts"}
    log = log_of(tmp_path / "log.csv", f'# a log\n#user,item,ts\nu1,"a, b",{T}\n', **named)
    assert triples(log) == [("u1", "a, b", T)]
    numbered = {"user": "1", "item": "2", "time": "3"}
    assert len(log_of(tmp_path / "rows.csv", f"#1,a,{T}\n#2,b,{T}\nu,c,{T}\n", **numbered)) == 3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("Report of January\n" + ROWS, "Line 1 of .* is neither a header nor a row.*'Report of January'; remove it"),
        (ROWS.replace(",", "   ").replace(f"b   {T + 1}", f"b {T + 1}"), "between runs of blanks, .*: tr -s ' '"),
        (
            "user_id,item_id,ts\nu1,a,Wed, 31 Jan 2024 10:00:00 GMT\n",
            "(?i)row 1 .* is bad, more cells than the 3 columns",
        ),
    ],
)
def test_a_file_without_a_whole_row_is_refused_with_what_is_wrong(tmp_path: Path, content: str, sentence: str) -> None:
    """Never as one without rows, whether roles are guessed or named."""
    with pytest.raises(SimError, match=sentence):
        log_of(tmp_path / "log.csv", content)
    named = {"user": "user_id", "item": "item_id", "time": "ts", "action": "item_id"}
    with pytest.raises(SimError, match=sentence):
        log_of(tmp_path / "log.csv", content, **named)
    with pytest.raises(SimError, match=sentence):
        sample_of(open_table([str(tmp_path / "log.csv")], TableSettings()))


@pytest.mark.parametrize("when", ["05.01.2024 10:00", '"Jan 5, 2024"', "5/1/2024 10:00", "5-Jan-2024", "2024-01-05"])
def test_a_time_in_the_first_line_makes_it_a_row(tmp_path: Path, when: str) -> None:
    """In any form, so that no event is taken for the names of columns."""
    (tmp_path / "log.csv").write_text(f"alice,B00X,{when}\nbob,B00Y,{when}\n")
    table = open_table([str(tmp_path / "log.csv")], TableSettings())
    assert table.columns == ["1", "2", "3"]
    assert len(sample_of(table)) == 2


@pytest.mark.parametrize("name", ["30 Day Views", "v1.2", "12-24 months", "May", "item:token", "Q1/2"])
def test_names_with_digits_are_a_header(tmp_path: Path, name: str) -> None:
    """They are neither numbers nor times."""
    (tmp_path / "log.csv").write_text(f"user_id,item_id,{name}\nu,a,5\n")
    assert open_table([str(tmp_path / "log.csv")], TableSettings()).columns == ["user_id", "item_id", name]


@pytest.mark.parametrize("quote", ["", '"'])
def test_files_put_together_have_no_byte_order_marks_in_their_ids(tmp_path: Path, quote: str) -> None:
    """Each of them began with one."""
    content = "".join(f"\ufeff{quote}u{n}{quote},a,{T + n}\n" for n in range(3))
    log = log_of(tmp_path / "log.csv", content, user="1", item="2", time="3")
    assert [user for user, _, _ in triples(log)] == ["u0", "u1", "u2"]


def test_quotes_behind_backslashes_are_part_of_a_cell(tmp_path: Path) -> None:
    r"""As MySQL and Spark write them; where they are not, a backslash is a letter, and \N none of the two."""
    rows = [f'"u1","27\\" tv",{T}', f'"u2","55\\"",{T + 1}', f'"u3","a\\\\b",{T + 2}']
    log = log_of(tmp_path / "log.csv", "user_id,item_id,ts\n" + "\n".join(rows) + "\n")
    assert [item for _, item, _ in triples(log)] == ['27" tv', '55"', "a\\b"]
    log = log_of(tmp_path / "log.csv", f'user_id,item_id,ts\n"u1","C:\\dir\\",{T}\n"u2","b",{T + 1}\n')
    assert [item for _, item, _ in triples(log)] == ["C:\\dir\\", "b"]


@pytest.mark.parametrize("columns", ["item_id", "nothing"])
def test_a_list_to_explode_in_a_text_is_refused(tmp_path: Path, columns: str) -> None:
    """Cells of a CSV are texts; the flag is not left out without a word."""
    (tmp_path / "log.csv").write_text(ROWS)
    with pytest.raises(SimError, match=f"--explode {columns} is for lists of JSON and Parquet, .*--shown"):
        open_log([str(tmp_path / "log.csv")], {"explode": columns})


@pytest.mark.parametrize("title", ["Report,,", "Report 2024,,\n,,", "Sales report,of the shop,,,"])
def test_a_title_with_separators_is_refused(tmp_path: Path, title: str) -> None:
    """As spreadsheets export it; a header that lacks the name of an index is none."""
    content = ROWS if title.count(",") < 4 else ROWS.replace("\n", ",,\n")
    with pytest.raises(
        SimError, match=r"Line 1 of .* is neither a header nor a row, since most of its cells are empty"
    ):
        log_of(tmp_path / "log.csv", f"{title}\n{content}")
    indexed = "".join(f"{line and n},{line}\n" for n, line in enumerate(ROWS.splitlines())).replace("0,", ",", 1)
    assert triples(log_of(tmp_path / "log.csv", indexed)) == READ


def test_a_line_that_names_the_item_of_those_behind_it_is_refused(tmp_path: Path) -> None:
    """With the command that writes it into them."""
    path = tmp_path / "combined_data_1.txt"
    path.write_text("1:\n1622324,1,2005-04-10\n1152733,4,2005-05-05\n2:\n7,4,2005-05-06\n")
    with pytest.raises(SimError, match=r"Line 1 of .*, '1:', seems to name the item of the lines behind it.*awk -F: "):
        open_table([str(path)], TableSettings()).columns  # noqa: B018


def test_a_long_cell_in_the_first_rows_is_read(tmp_path: Path) -> None:
    """Python's csv takes 131,072 characters unless it is told otherwise; the first lines are cut by it as well."""
    csv.field_size_limit(131_072)
    log = log_of(tmp_path / "log.csv", f'user_id,item_id,ts,text\nu,i,{T},"{"x" * 200_000}"\n')
    assert triples(log) == [("u", "i", T)]


def test_a_column_without_a_name_has_its_number(tmp_path: Path) -> None:
    """As pandas writes an index of times; a flag can name it, and none has to."""
    path = tmp_path / "log.csv"
    path.write_text(",user_id,item_id\n2023-11-14 22:13:20,u,i\n2023-11-14 22:13:21,v,j\n")
    assert "--time 1" in open_log([str(path)], {}).remarks[0]
    assert triples(open_log([str(path)], {"time": "1"})) == [("u", "i", T), ("v", "j", T + 1)]
