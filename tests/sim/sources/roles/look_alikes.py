"""Look-alikes of known logs, a few rows each with invented ids, and the actions that they hold."""

import json
from typing import Any, NamedTuple


class LookAlike(NamedTuple):
    """A known log in small."""

    file: str
    content: str
    actions: list[tuple[str, str, str, int]]
    """User, item, action and seconds, in order."""
    slates: int = 0


def lines(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


def objects(*records: dict[str, Any]) -> str:
    return lines(*(json.dumps(record) for record in records))


T = 1_511_544_070
_OTTO = [{"aid": 11, "ts": T * 1000, "type": "clicks"}, {"aid": 12, "ts": T * 1000 + 5000, "type": "carts"}]


def snowplow(time: str, event: str, user: str, path: str) -> str:
    """Return an enriched event of 131 fields."""
    cells = ["web", "web", time, time, "", event, "c6ef3124-b53a-4b13-a233-0088f79dcbcb"] + [""] * 124
    cells[15], cells[30], cells[35] = user, 'A "page', path
    return "\t".join(cells)


def kcat(topic: str, **payload: Any) -> dict[str, Any]:
    """Return what kcat -J writes of a record."""
    text = json.dumps(payload)
    return {
        "topic": topic,
        "partition": 0,
        "offset": 7,
        "tstype": "create",
        "ts": T * 1000,
        "key": "u1",
        "payload": text,
    }


LOOK_ALIKES: dict[str, LookAlike] = {
    "yoochoose": LookAlike(
        "yoochoose-clicks.dat",
        lines("1,2014-04-07T10:51:09.277Z,214536502,0", "1,2014-04-07T10:54:09.868Z,214536500,S"),
        [("1", "214536502", "click", 1_396_867_869), ("1", "214536500", "click", 1_396_868_049)],
    ),
    "retailrocket": LookAlike(
        "events.csv",
        lines(
            "timestamp,visitorid,event,itemid,transactionid", f"{T}117,257597,view,355908,", f"{T}999,9,transaction,5,4"
        ),
        [("257597", "355908", "view", T), ("9", "5", "transaction", T)],
    ),
    "diginetica": LookAlike(
        "train-item-views.csv",
        lines(
            "sessionId;userId;itemId;timeframe;eventdate",
            "1;NA;81766;526309;2016-05-09",
            "2;NA;31331;1031018;2016-05-09",
        ),
        [("1", "81766", "click", 1_462_752_526), ("2", "31331", "click", 1_462_753_031)],
    ),
    "taobao": LookAlike(
        "UserBehavior.csv",
        lines(f"11,2268318,2520377,pv,{T}", f"11,2333346,2520771,buy,{T + 60}"),
        [("11", "2268318", "pv", T), ("11", "2333346", "buy", T + 60)],
    ),
    "otto": LookAlike(
        "train.jsonl", objects({"session": 7, "events": _OTTO}), [("7", "11", "clicks", T), ("7", "12", "carts", T + 5)]
    ),
    "otto-parquet": LookAlike(
        "otto.csv",
        lines("session,aid,ts,type", *(f"7,1{n},{T + n},{n}" for n in range(3))),
        [("7", f"1{n}", str(n), T + n) for n in range(3)],
    ),
    "mind": LookAlike(
        "behaviors.tsv",
        lines(
            "1\tU13740\t11/15/2019 8:55:22 AM\tN55189 N42782\tN55689-1 N35729-0",
            "2\tU13741\t11/15/2019 9:01:07 PM\t\tN35729-0 N55689-0 N100-1",
        ),
        [("U13740", "N55689", "click", 1_573_808_122), ("U13741", "N100", "click", 1_573_851_667)],
        slates=2,
    ),
    "ebnerd": LookAlike(
        "behaviors.json",
        objects(
            *(
                {
                    "impression_id": n,
                    "article_id": 9 if n else None,
                    "impression_time": "2017-11-24T17:21:10",
                    "article_ids_inview": [1, 2, 3],
                    "article_ids_clicked": [2],
                    "user_id": n,
                }
                for n in range(2)
            )
        ),
        [("0", "2", "click", T), ("1", "2", "click", T)],
        slates=2,
    ),
    "kuairand": LookAlike(
        "log_standard.csv",
        lines(
            "user_id,video_id,date,hourmin,time_ms,is_click,is_like",
            f"0,382,20220408,1100,{T}000,1,0",
            f"0,5,20220408,1100,{T}900,0,0",
        ),
        [("0", "382", "click", T)],
        slates=2,
    ),
    "amazon-2018": LookAlike(
        "Books.json",
        objects({"overall": 5.0, "reviewerID": "A2", "asin": "000171287X", "unixReviewTime": T, "reviewText": "a, b"}),
        [("A2", "000171287X", "rate", T)],
    ),
    "amazon-2014-ratings": LookAlike(
        "ratings_Books.csv", lines(f"A1C6M8LCIX4M6M,0001713353,5.0,{T}"), [("A1C6M8LCIX4M6M", "0001713353", "rate", T)]
    ),
    "amazon-2018-ratings": LookAlike(
        "ratings_Books.csv", lines(f"0001713353,A1C6M8LCIX4M6M,5.0,{T}"), [("A1C6M8LCIX4M6M", "0001713353", "rate", T)]
    ),
    "amazon-2023": LookAlike(
        "Books.csv", lines("user_id,parent_asin,rating,timestamp", f"AEX,B0,5.0,{T}123"), [("AEX", "B0", "rate", T)]
    ),
    "ml-100k": LookAlike(
        "u.data",
        lines("196\t242\t3\t881250949", "186\t302\t3\t891717742"),
        [("196", "242", "rate", 881_250_949), ("186", "302", "rate", 891_717_742)],
    ),
    "ml-1m": LookAlike(
        "ratings.dat",
        lines(f"1::1193::5::{T}", f"1::661::3::{T + 1}"),
        [("1", "1193", "rate", T), ("1", "661", "rate", T + 1)],
    ),
    "ml-25m": LookAlike(
        "ratings.csv", lines("userId,movieId,rating,timestamp\r", f"1,296,5.0,{T}\r"), [("1", "296", "rate", T)]
    ),
    "lastfm-1k": LookAlike(
        "userid-timestamp.tsv",
        lines("user_000001\t2009-05-04T23:08:57Z\tf1b1\tDeep \"Dish\t\tFuck Me I'm Famous"),
        [("user_000001", 'Deep "Dish', "click", 1_241_478_537)],
    ),
    "hm": LookAlike(
        "transactions_train.csv",
        lines("t_dat,customer_id,article_id,price,sales_channel_id", "2018-09-20,00ab,0663713001,0.05,2"),
        [("00ab", "0663713001", "click", 1_537_401_600)],
    ),
    "gowalla": LookAlike(
        "Gowalla_totalCheckins.txt",
        lines("0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847"),
        [("0", "22847", "click", 1_287_532_527)],
    ),
    "criteo-attribution": LookAlike(
        "criteo_attribution_dataset.tsv",
        lines(
            "timestamp\tuid\tcampaign\tconversion\tclick\tcost",
            "0\t20073966\t22589171\t0\t0\t1e-5",
            "2\t24607497\t884761\t0\t1\t9e-5",
        ),
        [("24607497", "884761", "click", 2)],
        slates=2,
    ),
    "recbole": LookAlike(
        "ml-100k.inter",
        lines("user_id:token\titem_id:token\trating:float\ttimestamp:float", f"196\t242\t3\t{T}"),
        [("196", "242", "rate", T)],
    ),
    "ga4": LookAlike(
        "ga4.jsonl",
        objects(
            {
                "user_pseudo_id": "1.2",
                "event_name": "view_item",
                "event_timestamp": str(T * 10**6),
                "items": [{"item_id": "G1"}, {"item_id": "G2"}],
            },
            {"user_pseudo_id": "1.2", "event_name": "page_view", "event_timestamp": str(T * 10**6), "items": []},
        ),
        [("1.2", "G1", "view_item", T), ("1.2", "G2", "view_item", T)],
    ),
    "segment": LookAlike(
        "track.jsonl",
        objects(
            {"userId": "97", "event": "Added", "timestamp": "2017-11-24T17:21:10Z", "properties": {"product_id": "p"}},
            {"userId": None, "event": "Signed Up", "timestamp": "2017-11-24T17:21:10Z", "properties": {}},
            {
                "userId": None,
                "anonymousId": "a",
                "event": "Order Completed",
                "timestamp": "2017-11-24T17:21:11Z",
                "properties": {"product_id": "o", "products": [{"product_id": "p"}, {"product_id": "q"}]},
            },
        ),
        [("97", "p", "Added", T), ("a", "p", "Order Completed", T + 1), ("a", "q", "Order Completed", T + 1)],
    ),
    "snowplow": LookAlike(
        "events.csv",
        lines(
            "app_id,collector_tstamp,event_name,domain_userid,page_urlpath",
            "web,2017-11-24 17:21:10.123,page_view,d1,/a",
            "web,2017-11-24 17:21:10,ping,,/a",
        ),
        [("d1", "/a", "page_view", T)],
    ),
    "snowplow-tsv": LookAlike(
        "enriched.tsv",
        lines(
            snowplow("2017-11-24 17:21:10.123", "page_view", "d1", "/a"),
            snowplow("2017-11-24 17:21:10", "page_ping", "", "/a"),
        ),
        [("d1", "/a", "page_view", T)],
    ),
    "kcat": LookAlike(
        "topics.json",
        objects(
            kcat("impressions", watermark=T * 1000),
            kcat("actions", user_id="u1", item_id="b", action="click", ts=T * 1000 + 500, request_id="r"),
            kcat("actions", user_id="u1", item_id="z", action="buy", ts=T * 1000 + 9000),
            kcat("impressions", user_id="u1", request_id="r", ts=T * 1000, items=["a", "b"]),
        ),
        [("u1", "b", "click", T), ("u1", "z", "buy", T + 9)],
        slates=1,
    ),
    "rees46": LookAlike(
        "2019-Oct.csv",
        lines(
            "event_time,event_type,product_id,category_id,user_id,user_session",
            "2017-11-24 17:21:10 UTC,view,44600062,21,541,72d7",
        ),
        [("541", "44600062", "view", T)],
    ),
    "yelp": LookAlike(
        "review.json",
        objects({"review_id": "r", "user_id": "u", "business_id": "b", "stars": 4.0, "date": "2017-11-24 17:21:10"}),
        [("u", "b", "rate", T)],
    ),
}
