"""Known logs: recognised by header or first row, or named; each has a look-alike that is read rightly."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.log_flags import FLAGS
from sim.sources.open_log import open_log
from sim.sources.roles.known import known_log, names, recognised
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.table import open_table
from tests.sim.sources.logs import START_S as T, events_of
from tests.sim.sources.roles.look_alikes import LOOK_ALIKES, kcat, objects

PLAIN = "user_id,item_id,ts\n1,2,1700000000\n"


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("named", [False, True])
def test_a_known_log_is_read_without_a_flag(tmp_path: Path, name: str, named: bool) -> None:
    """And by its name; every one has a look-alike."""
    alike = LOOK_ALIKES[name]
    path = tmp_path / alike.file
    path.write_text(alike.content)
    log = open_log([str(path)], {"read_as": name if named else None})
    assert log.remarks[0].startswith(f"{'Read' if named else 'Recognised'} as {name}:")
    events = events_of(log)
    acted = [(e["user_id"], e["item_id"], e["action"], e["ts"] // 1000) for e in events if "action" in e]
    assert acted == alike.actions
    assert log.summary.slates == alike.slates


def test_kcat_slates_keep_their_items(tmp_path: Path) -> None:
    """What was shown is what the impression names, in its order; the action names its request."""
    path = tmp_path / "topics.json"
    path.write_text(LOOK_ALIKES["kcat"].content)
    shown, click, organic = events_of(open_log([str(path)], {}))
    assert (shown["items"], shown["request_id"]) == (["a", "b"], "r")
    assert (click["request_id"], organic.get("request_id")) == ("r", None)


def test_other_records_in_kcat_s_envelope_are_not_this_program_s(tmp_path: Path) -> None:
    """Though they have an action; their own columns are guessed."""
    path = tmp_path / "topics.json"
    path.write_text(objects(*(kcat("clicks", action="buy", uid=f"u{n}", sku="a", at=T + n) for n in range(3))))
    log = open_log([str(path)], {})
    assert "--user payload.uid --item payload.sku" in log.remarks[0]
    assert log.summary.actions == {"buy": 3}


def test_mind_s_test_split_has_slates_without_labels(tmp_path: Path) -> None:
    """They are shown, and nothing is acted on."""
    path = tmp_path / "behaviors.tsv"
    path.write_text("1\tU13740\t11/15/2019 8:55:22 AM\tN55189 N42782\tN55689 N35729\n")
    log = open_log([str(path)], {})
    assert log.remarks[0].startswith("Recognised as mind:")
    assert "--title" not in log.remarks[0]  # there is no catalogue
    assert [event["items"] for event in events_of(log)] == [["N55689", "N35729"]]


def test_what_a_known_log_lacks_is_not_asked_for(tmp_path: Path) -> None:
    """Calls of a server have no anonymousId, and those of a shop without orders no lists of products."""
    path = tmp_path / "track.jsonl"
    call = {"userId": "97", "event": "Added", "timestamp": "2017-11-24T17:21:10Z", "properties": {"product_id": "p"}}
    path.write_text(objects(call, call))
    log = open_log([str(path)], {})
    assert log.remarks[0].startswith("Recognised as segment:")
    assert [(event["user_id"], event["item_id"]) for event in events_of(log)] == [("97", "p")] * 2


def test_a_topic_of_others_is_not_ours(tmp_path: Path) -> None:
    """kcat's envelope alone makes no record of this program."""
    path = tmp_path / "clicks.json"
    payload = {"user_id": "u", "item_id": "i", "ts": 1_700_000_000_000, "event_type": "view"}
    path.write_text(objects(kcat("clicks", **payload), kcat("clicks", **payload)))
    assert recognised(open_table([str(path)], TableSettings())) is None
    flags = {"read_as": "kcat"}
    with pytest.raises(
        SimError, match=r"no row that can be replayed: 2 of 2 rows are bad .*payload.action is no action"
    ):
        open_log([str(path)], flags)


def test_every_known_log_names_flags_that_there_are() -> None:
    """And says what it is."""
    for log in map(known_log, names()):
        assert set(log.flags) | set(log.either) <= set(FLAGS), log.name
        assert log.about
        assert log.about != log.name
        assert log.header or log.first


def test_a_log_of_ones_own_is_a_file(tmp_path: Path) -> None:
    """With the same keys; flags that are given count more."""
    mine, path = tmp_path / "mine.toml", tmp_path / "log.csv"
    mine.write_text('header = ["wer"]\n[flags]\nuser = "wer"\nitem = "was"\ntime = "wann"\n')
    path.write_text("wer,was,wann,x\nu,i,1700000000,j\n")
    assert open_log([str(path)], {"read_as": str(mine)}).table["item"].to_list() == ["i"]
    assert open_log([str(path)], {"read_as": str(mine), "item": "x"}).table["item"].to_list() == ["j"]
    for content, sentence in (
        ("[flags", "is no TOML"),
        ("flag = 1", "has the key 'flag'; known are about, any, "),
        ("", r"has no \[flags\], which say how the log is read"),
        ("header = 'wer'", r"mine.toml describes no log: Expected `array`, got `str` - at `\$.header`"),
        ("first = ['(']", "describes no log: missing \\)"),
        ("flags = 3", "describes no log: Expected `object`, got `int`"),
        ("[flags]\nuser = 1", "user in .flags. of .*mine.toml is 1"),
        ("[either]\nuser = ['']", "user in .flags. of .*mine.toml is empty"),
    ):
        mine.write_text(content)
        with pytest.raises(SimError, match=sentence):
            open_log([str(path)], {"read_as": str(mine)})
    with pytest.raises(
        SimError, match=r"--as netflix is no known log; known are amazon-2014-ratings, amazon-2018, .*or a .toml file"
    ):
        open_log([str(path)], {"read_as": "netflix"})


@pytest.mark.parametrize("key", ["product_id", "sku"])
@pytest.mark.parametrize("viewed", [False, True])
def test_orders_are_segment_s_too(tmp_path: Path, key: str, viewed: bool) -> None:
    """Without a view beside them, and with products that have a SKU alone."""
    call = {"userId": "u", "event": "Order Completed", "timestamp": "2017-11-24T17:21:10Z"}
    calls = [call | {"properties": {"products": [{key: "a"}, {key: "b"}]}}]
    if viewed:
        calls.append(call | {"event": "Product Viewed", "properties": {"product_id": "c"}})
    path = tmp_path / "track.jsonl"
    path.write_text(objects(*calls))
    log = open_log([str(path)], {})
    assert log.remarks[0].startswith("Recognised as segment:")
    assert [event["item_id"] for event in events_of(log)] == ["a", "b", "c"][: 2 + viewed]
