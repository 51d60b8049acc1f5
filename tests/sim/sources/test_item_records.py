"""Catalogues: a table of items as records of topic `items`."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.item_records import read_items
from sim.sources.open_log import open_log
from sim.sources.tables.bad_rows import BadRows


def test_a_catalogue_has_titles_and_features(tmp_path: Path) -> None:
    """At the time of the first event; parts between | are a list, an empty cell is nothing."""
    items, ts_ms = tmp_path / "items.csv", 1_704_067_201_000
    items.write_text("id,title,genres,year\na,Alien,Horror|Sci-Fi,1979\nb,,,\n")
    records = [(key, json.loads(value)) for key, value in read_items(str(items), "item_id", ts_ms).records]
    features = {"genres": ["Horror", "Sci-Fi"], "year": 1979}
    assert records == [
        ("a", {"item_id": "a", "ts": ts_ms, "title": "Alien", "features": features}),
        ("b", {"item_id": "b", "ts": ts_ms}),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,year\nx,1\n", "none of the columns item_id, id, item, .* for the item's id; its columns are name, year"),
        ("id\na\na\n", "Row 2 of .*'a' in column 'id', which is the id of an earlier row; .* 1 of 2 rows are bad"),
        ("id\n\n", "has no rows|has no id"),
    ],
)
def test_a_catalogue_that_cannot_be_read_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    """In a sentence with the file's columns or the item."""
    items = tmp_path / "items.csv"
    items.write_text(content)
    with pytest.raises(SimError, match=sentence):
        read_items(str(items), "item_id", 0)


def test_bad_rows_of_a_catalogue_are_left_out_as_those_of_a_log(tmp_path: Path) -> None:
    """--skip-bad counts them, --bad-rows keeps them behind those of the log; without it each is refused."""
    log, items, kept = tmp_path / "log.csv", tmp_path / "items.csv", tmp_path / "bad.jsonl"
    log.write_text("user_id,item_id,ts\nu,a,1700000000\n,b,1700000001\n")
    items.write_text("item_id,title\na,Alien\n,Nobody\na,Twice\nb,Too,many\n")
    read = open_log([str(log)], {"items": str(items), "skip_bad": "3", "bad_rows": str(kept)})
    assert [key for key, _ in read.catalogue] == ["a"]
    assert "3 of its rows are bad and left out: 1 × more cells" in read.remarks[-2]
    assert [json.loads(line)["row"] for line in kept.read_text().splitlines()] == [2, 4, 2, 3]
    with pytest.raises(SimError, match="3 of 4 rows are bad"):
        open_log([str(log)], {"items": str(items), "skip_bad": "2"})


def records(path: Path, content: str | pl.DataFrame, **flags: Any) -> dict[str, dict[str, Any]]:
    """Write a catalogue and return its records by id."""
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        content.write_parquet(path)
    return {key: json.loads(value) for key, value in read_items(str(path), "item_id", 0, **flags).records}


@pytest.mark.parametrize(
    ("name", "content", "flags"),
    [
        ("news.tsv", 'N1\tnews\tlife\t"Wheel of Fortune" Guest\nN2\tnews\tlife\tB\n', {"item_id": "1", "title": "4"}),
        ("movies.dat", 'N1::"Wheel of Fortune" Guest::Drama\nN2::B::Drama\n', {"item_id": "1", "title": "2"}),
        ("meta.jsonl", '{"parent_asin": "N1", "title": "\\"Wheel of Fortune\\" Guest"}\n', {"item_id": "parent_asin"}),
        ("articles.csv", 'article_id,prod_name\nN1,"""Wheel of Fortune"" Guest"\n', {}),
        ("m.item", 'id:token\tname\nN1\t"Wheel of Fortune" Guest\n', {"item_id": "id:token"}),
    ],
)  # fmt: skip
def test_a_catalogue_may_have_any_format_and_names(tmp_path: Path, name: str, content: str, flags: Any) -> None:
    """Quotes in titles stay; columns are named, numbered, or have usual names."""
    assert records(tmp_path / name, content, **flags)["N1"]["title"] == '"Wheel of Fortune" Guest'


def test_titles_and_features_of_parquet_are_what_workers_take(tmp_path: Path) -> None:
    """Numbers as titles are texts; structs are texts; NaN and empty lists are nothing."""
    frame = pl.DataFrame(
        {
            "id": [1.0, 2.0],
            "title": [1984, None],
            "price": [float("nan"), 2.5],
            "tags": [["a"], []],
            "parts": [[{"x": 1}], []],
            "by": [{"x": 1}, {"x": 2}],
        }
    )
    found = records(tmp_path / "items.parquet", frame)
    assert found["1"]["title"] == "1984"
    assert found["1"]["features"] == {"tags": ["a"], "parts": ['{"x":1}'], "by.x": 1}
    assert found["2"] == {"item_id": "2", "ts": 0, "features": {"price": 2.5, "by.x": 2}}


def test_a_catalogue_of_other_ids_is_noticed(tmp_path: Path) -> None:
    """The share that is covered and an example say so; pandas' 1.0 in a CSV is 1."""
    (tmp_path / "log.csv").write_text("user_id,item_id,ts\nu,1,1700000000\nu,2,1700000001\n")
    for ids, sentence in (
        ("p1\np2", "has 0 of the log's 2 items. Its ids are such as 'p1'"),
        ("1\n3", "has 1 of"),
        ("1.0\n2.0", "has 2 of"),
    ):
        (tmp_path / "items.csv").write_text(f"item_id\n{ids}\n")
        log = open_log([str(tmp_path / "log.csv")], {"items": str(tmp_path / "items.csv")})
        assert any(sentence in said for said in log.remarks)


GENRES = ["x|y", ["a", "b|c"], None, 5.5]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_scalars_beside_lists_are_lists_of_one(tmp_path: Path, first: int) -> None:
    """Wherever the lists are, in the same batch of rows or in an earlier or later one; parts of a text are several."""
    lines = [json.dumps({"item_id": str(row), "genre": genre}) for row, genre in enumerate(GENRES)]
    (tmp_path / "0.jsonl").write_text("\n".join(lines[:first]))
    (tmp_path / "1.jsonl").write_text("\n".join(lines[first:]))
    found = [json.loads(value).get("features") for _, value in read_items(str(tmp_path), "item_id", 0).records]
    assert found == [{"genre": ["x", "y"]}, {"genre": ["a", "b", "c"]}, None, {"genre": [5.5]}]


@pytest.mark.parametrize("column", ["item_id", "title"])
@pytest.mark.parametrize("name", ["items.jsonl", "items.parquet"])
def test_a_list_is_no_id_and_no_title(tmp_path: Path, name: str, column: str) -> None:
    """It is a bad row: refused in a sentence, or left out; the scalars beside it in JSON are good."""
    row = {"item_id": "a", "title": "b", column: ["c"]}
    rows = [row, {"item_id": "d", "title": "e"}] if name == "items.jsonl" else [row]
    content = "\n".join(map(json.dumps, rows)) if name == "items.jsonl" else pl.DataFrame(rows)
    with pytest.raises(SimError, match=f"{column}.* is (bad, {column} is )?(a list|no id).*: --skip-bad 1 leaves"):
        records(tmp_path / name, content)
    if name == "items.jsonl":
        kept = records(tmp_path / name, content, bad=BadRows("1", None))
        assert kept == {"d": {"item_id": "d", "ts": 0, "title": "e"}}


def test_a_column_may_have_no_name(tmp_path: Path) -> None:
    """As the index has that pandas writes; a CSV numbers its columns, so there it has its number."""
    assert "features" not in records(tmp_path / "items.jsonl", '{"item_id": "a", "title": "x", "": "y"}')["a"]
    assert records(tmp_path / "items.csv", "item_id,title,\na,x,y\n")["a"]["features"] == {"3": "y"}


NUMBERS = {"1999": 1999, "9.5": 9.5, "-0.25": -0.25, "1e3": 1000.0, "0": 0, "9" * 25: 1e25}


@pytest.mark.parametrize("text", [*NUMBERS, "007", "1e400", "9" * 5000, "+1", "1_000", ".5", "٣"])
def test_a_text_that_is_a_plain_number_is_one(tmp_path: Path, text: str) -> None:
    """Alone and in lists, in any format; ids and titles stay texts."""
    row = {"item_id": "1", "title": "1984", "x": text, "list": [text, "b"]}
    csv = f"item_id,title,x,list\n1,1984,{text},{text}|b\n"
    for name, content in {"a.csv": csv, "a.jsonl": json.dumps(row), "a.parquet": pl.DataFrame([row])}.items():
        value = NUMBERS.get(text, text)
        found = records(tmp_path / name, content)
        assert found["1"] == {
            "item_id": "1", "ts": 0, "title": "1984", "features": {"x": value, "list": [value, "b"]},
        }  # fmt: skip


def test_a_catalogue_has_the_same_features_in_any_format(tmp_path: Path) -> None:
    """Numbers of JSON and CSV are those of Parquet."""
    row = {"item_id": "1", "year": 1999, "price": 9.5}
    made = [
        records(tmp_path / "a.csv", "item_id,year,price\n1,1999,9.5\n"),
        records(tmp_path / "a.jsonl", json.dumps(row)),
        records(tmp_path / "a.parquet", pl.DataFrame([row])),
    ]
    assert made == [{"1": {"item_id": "1", "ts": 0, "features": {"year": 1999, "price": 9.5}}}] * 3


ROWS = [{"item_id": "a", "new": True, "tags": [True, "false"]}, {"item_id": "b", "new": False, "tags": ["no"]}]


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl", "items.parquet", "pandas.csv"])
def test_a_boolean_is_one_in_every_format(tmp_path: Path, name: str) -> None:
    """CSV and JSON are read as texts; pandas writes True. Beside other texts in a list, too."""
    rows = [{"item_id": row["item_id"], "new": row["new"]} for row in ROWS]
    content: str | pl.DataFrame = pl.DataFrame(rows)
    if name == "items.jsonl":
        content = "\n".join(map(json.dumps, ROWS))
    elif name.endswith(".csv"):
        values = ("True", "False") if name == "pandas.csv" else ("true", "false")
        content = "item_id,new\na,{}\nb,{}\n".format(*values)
    read = records(tmp_path / name, content)
    assert [read[key]["features"]["new"] for key in "ab"] == [True, False]
    if name == "items.jsonl":
        assert [read[key]["features"]["tags"] for key in "ab"] == [[True, False], ["no"]]


@pytest.mark.parametrize("flags", [{"title": "meta.title"}, {"item_id": "meta.title"}])
@pytest.mark.parametrize("name", ["items.jsonl", "items.parquet"])
def test_an_id_or_title_in_lists_is_a_sentence(tmp_path: Path, name: str, flags: dict[str, str]) -> None:
    """The file's columns that could be one are listed."""
    row = {"item_id": "a", "meta": [{"title": "x"}], "name": "y"}
    content = json.dumps(row) if name == "items.jsonl" else pl.DataFrame([row])
    with pytest.raises(SimError, match=r"has 'meta.title' in lists, .* columns item_id, meta, name\."):
        records(tmp_path / name, content, **flags)


def test_a_name_with_a_dot_in_csv_is_a_column_like_any(tmp_path: Path) -> None:
    """As R writes them: `price.old` beside `price` is no part of it."""
    read = records(tmp_path / "items.csv", "item_id,price,price.old\na,1,2\n")
    assert read["a"]["features"] == {"price": 1, "price.old": 2}


@pytest.mark.parametrize(
    ("content", "flags", "sentence"),
    [
        (
            "item_id,Bezeichnung,genre\na,Alien,x\n",
            {},
            "No column of the catalogue is plainly the title, so items have none (--title COLUMN); "
            "features are Bezeichnung, genre.",
        ),
        (
            "item_id,Bezeichnung\na,Alien\n",
            {"title": "Bezeichnung"},
            "Titles are in 'Bezeichnung'; it has no features.",
        ),
        ("item_id,year,title\na,1979,Alien\n", {}, "Titles are in 'title'; features are year."),
    ],
)
def test_what_a_catalogue_s_columns_became_is_said(
    tmp_path: Path, content: str, flags: dict[str, str], sentence: str
) -> None:
    """A title that was not recognised is a feature, which nobody would notice else."""
    (tmp_path / "log.csv").write_text("user_id,item_id,ts\nu,a,1704067201\n")
    (tmp_path / "items.csv").write_text(content)
    log = open_log([str(tmp_path / "log.csv")], {"items": str(tmp_path / "items.csv")} | flags)
    assert log.remarks[-2:] == ["The catalogue has 1 of the log's 1 items.", sentence]


@pytest.mark.parametrize("column", ["ITEM_ID", "Item-Id", "itemid"])
def test_names_of_a_catalogue_may_be_in_any_case(tmp_path: Path, column: str) -> None:
    """As those of a log."""
    assert records(tmp_path / "a.csv", f"{column},TITLE\na,Alien\n") == {
        "a": {"item_id": "a", "ts": 0, "title": "Alien"}
    }


def test_blanks_around_texts_are_no_part_of_them(tmp_path: Path) -> None:
    """Of titles and of features, of which one of blanks alone is none."""
    row = {"item_id": "a", "title": " Alien ", "genre": "Horror | Sci-Fi ", "year": " 1979 ", "note": "  "}
    for name, content in {"a.csv": ",".join(row) + "\n" + ",".join(row.values()), "a": pl.DataFrame([row])}.items():
        assert records(tmp_path / name, content)["a"] == {
            "item_id": "a", "ts": 0, "title": "Alien", "features": {"genre": ["Horror", "Sci-Fi"], "year": 1979},
        }  # fmt: skip


def test_files_of_a_catalogue_have_the_same_columns(tmp_path: Path) -> None:
    """The sentence names the file and the column, and no flag of a log."""
    (tmp_path / "a.csv").write_text("item_id,title\na,Alien\n")
    (tmp_path / "b.csv").write_text("item_id\nb\n")
    with pytest.raises(SimError, match=r"b.csv has no column 'title', which .*a.csv has; .* Its own are item_id.$"):
        read_items(str(tmp_path), "item_id", 0)


def test_a_column_that_may_hold_titles_is_proposed(tmp_path: Path) -> None:
    """By its name, if few of its texts are there twice."""
    (tmp_path / "a.csv").write_text("item_id,brand_name,product title\na,x,Alien\nb,x,Babe\nc,x,Cars\n")
    assert "(--title 'product title')" in read_items(str(tmp_path / "a.csv"), "item_id", 0).remark


def test_a_feature_that_json_has_no_number_for_is_none(tmp_path: Path) -> None:
    """NaN, as Python writes it: the item stays, without that feature."""
    found = records(tmp_path / "a.jsonl", '{"item_id": "1", "title": "A", "x": NaN, "y": [Infinity, 2]}\n')
    assert found["1"] == {"item_id": "1", "ts": 0, "title": "A", "features": {"y": [2]}}


def test_features_are_the_columns_that_are_named(tmp_path: Path) -> None:
    """Of a file without a header by number; MIND's are its categories, and neither texts nor addresses."""
    log, news = tmp_path / "behaviors.tsv", tmp_path / "news.tsv"
    log.write_text("1\tU1\t11/15/2019 8:55:22 AM\t\tN1-1 N2-0\n")
    news.write_text("N1\tsports\tgolf\tTitle\tAbstract\thttps://x/1.html\t[]\t[]\n")
    read = open_log([str(log)], {"items": str(news)})
    assert json.loads(read.catalogue[0][1])["features"] == {"2": "sports", "3": "golf"}
    assert read.remarks[-1] == "Titles are in '4'; features are 2, 3."
    with pytest.raises(SimError, match=r"news.tsv has no column 'topic'; its columns are 1, 2"):
        open_log([str(log)], {"items": str(news), "features": "2,topic"})


NOTHINGS = ["NULL", "nan", "NaN", "None", r"\N", "N/A", "<NA>", ""]


@pytest.mark.parametrize("nothing", NOTHINGS)
@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_what_exports_write_for_nothing_is_nothing(tmp_path: Path, name: str, nothing: str) -> None:
    """No title, no feature, and no part of one, as in Parquet."""
    row = {"item_id": "a", "title": nothing, "price": nothing, "tags": f"x|{nothing}", "more": f"{nothing}|{nothing}"}
    lines = ",".join(row) + "\n" + ",".join(row.values()) + "\nb,B,1,y,z\n"
    found = records(tmp_path / name, lines if name == "items.csv" else json.dumps(row))
    assert found["a"] == {"item_id": "a", "ts": 0, "features": {"tags": ["x"]}}


@pytest.mark.parametrize(
    ("prices", "wanted"),
    [
        (["1,50", "12", "-0,5", ""], [1.5, 12, -0.5, None]),
        (["1,50", "1,500"], ["1,50", "1,500"]),  # perhaps thousands
        (["3,7", "3,7,12"], ["3,7", "3,7,12"]),  # a list
        (["3,7", "x"], ["3,7", "x"]),
    ],
)
def test_decimal_commas_are_numbers(tmp_path: Path, prices: list[str], wanted: list[Any]) -> None:
    """As they are in ratings, where a column holds nothing else."""
    content = "".join(f"{n};{price}\n" for n, price in enumerate(prices))
    found = records(tmp_path / "items.csv", "item_id;price\n" + content)
    assert [row.get("features", {}).get("price") for row in found.values()] == wanted


def test_commas_between_categories_are_no_decimal_ones(tmp_path: Path) -> None:
    """By the name of their column."""
    found = records(tmp_path / "items.csv", "item_id;cats;price\n1;1,2;1,2\n2;7;3\n")
    assert found["1"]["features"] == {"cats": "1,2", "price": 1.2}


@pytest.mark.parametrize("column", ["sku", "asin", "parent_asin", "Video ID", "product.id"])
def test_a_name_of_items_in_logs_is_one_in_catalogues(tmp_path: Path, column: str) -> None:
    """The usual names of a catalogue count more; of two as good, none is taken."""
    path = tmp_path / "items.csv"
    assert list(records(path, f"title,{column}\nA,a\n")) == ["a"]
    assert list(records(path, f"{column},id\na,7\n")) == ["7"]
    with pytest.raises(SimError, match="has none of the columns item_id, id"):
        records(path, f"{column},shop.{column}\na,b\n")
