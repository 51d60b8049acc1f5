"""Names that columns of each role usually have."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

_WRAPPED: Final = r"(\.(\$\w+|S|N|B|BOOL))+$"
"""Types that MongoDB and DynamoDB write behind names: userId.$oid, Item.user_id.S."""
Certainty = Literal["sure", "likely", "unsure"]
NAMES: Final[dict[str, tuple[str, ...]]] = {  # of the best first; small letters without what is no letter
    "user": ("userid", "user", "uid", "customerid", "visitorid", "memberid", "accountid", "reviewerid", "userpseudoid",
             "domainuserid", "customeruserid", "custid", "customernumber", "customerno", "subscriberid", "buyerid",
             "shopperid", "viewerid", "householdkey", "distinctid", "fullvisitorid", "customer", "visitor", "steamid",
             "playerid", "authorid", "profileid", "person", "personid", "username", "email", "customeremail",
             "clientid", "deviceid", "sessionid", "session", "anonymousid", "cookieid", "uuid"),
    "item": ("itemid", "item", "iid", "productid", "movieid", "videoid", "articleid", "newsid", "trackid", "songid",
             "businessid", "asin", "aid", "sku", "contentid", "bookid", "adid", "product", "movie", "video", "article",
             "appid", "gameid", "isbn", "postid", "songname", "artistid", "poiid", "venueid", "locationid", "hotelid",
             "listingid", "jobid", "recipeid", "documentid", "courseid", "showid", "episodeid", "offerid", "goodsid",
             "skuid", "productsku", "propertyid", "photoid", "productcode", "stockcode", "ean", "gtin", "upc", "gmapid",
             "parentasin", "articleno", "adgroupid", "clickarticleid", "url", "pageurl", "pageurlpath", "pagepath",
             "page", "path"),
    "time": ("ts", "timestamp", "eventtime", "eventtimestamp", "time", "timems", "datetime", "createdat", "created",
             "eventts", "collectortstamp", "clicktimestamp", "unixtime", "date", "dt", "day", "at", "when"),
    "action": ("action", "event", "eventtype", "eventname", "actiontype", "behavior", "behaviortype", "interaction",
               "label", "click", "clicked", "isclick"),
    "rating": ("rating", "stars", "score", "overall", "rate"),
    "request": ("requestid", "request", "reqid", "slateid", "slate", "impressionid", "searchid", "queryid", "listid",
                "recommendationid", "recid", "pageviewid"),
}  # fmt: skip


class Role(NamedTuple):
    """What a column is."""

    column: str
    certainty: Certainty
    why: str


class Doubt(NamedTuple):
    """What speaks against a guess, so that a log is not read by it unless flags decide."""

    role: str
    """The role; naming its column decides."""
    said: str
    """What is doubtful and what to do, in sentences."""
    unless: tuple[str, ...] = ()
    """Other flags that decide."""
    flags: Mapping[str, Any] = MappingProxyType({})
    """Flags of the line that is proposed."""
    other: Mapping[str, Any] = MappingProxyType({})
    """Flags of another line that may be meant as well; None takes one away."""


def plain_name(name: str) -> str:
    """Return a name in small letters, of a nested field its last part; the last two where one has no role: item.id."""
    plain = re.sub(_WRAPPED, "", name).lower().partition(":")[0]
    parts = [re.sub(r"[^a-z]", "", part) for part in plain.split(".")]
    known = any(parts[-1] in those for those in NAMES.values())
    return parts[-1] if known else "".join(parts[-2:])


def named_like(role: str, name: str) -> bool:
    """Return whether the name of a column is one of a role."""
    return plain_name(name) in NAMES[role]


def best_of(role: str, columns: Sequence[str]) -> Role | None:
    """Return the column whose name is best, sure if no other has a name of the role."""
    ranks = {name: NAMES[role].index(plain_name(name)) for name in columns if plain_name(name) in NAMES[role]}
    if not ranks:
        return None
    best = min(ranks, key=ranks.__getitem__)
    a_role = f"a{'n' * (role in ('item', 'action'))} {role}"
    rivals = [name for name in ranks if name != best and plain_name(name) == plain_name(best)]
    if rivals:
        return Role(best, "unsure", f"as that of {rivals[0]!r} its name is one of {a_role}")
    return Role(best, "sure", f"its name is one of {a_role}")
