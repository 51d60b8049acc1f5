"""What may be asked over HTTP: query parameters, JSON bodies, and the bytes of a body.

A body is a flat JSON object of known fields. Anything else ends the decoding where it stands, so that 1 MiB, the most
that is taken, costs milliseconds whatever it holds. Bodies of more than 64 KiB are decoded beside the event loop, one
at a time: there is one interpreter lock, and the event loop wants it back soon.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

import msgspec
from anyio.to_thread import run_sync
from fastapi import HTTPException, Query, Request, Response
from fastapi.routing import APIRoute
from msgspec import UNSET, UnsetType
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from model.serving.filters import Filters
from model.serving.responses import MAX_ALIKE, MAX_EXPLAINED, MAX_EXPLAINED_USERS, MAX_ITEMS, MAX_K, MAX_USERS
from stream.example import END_OF_TIME_MS, MAX_ID_BYTES, id_text

BODY_BYTES: Final = 1 << 20  # MAX_ITEMS ids of MAX_ID_BYTES are half of that
_LARGE_BYTES: Final = 1 << 16
_NOW: Final = "Time of the request in event time, ms; default: now."
_ID: Final = {"minLength": 1, "maxLength": MAX_ID_BYTES}

K = Annotated[int, Query(description="Items wanted.", json_schema_extra={"minimum": 1, "maximum": MAX_K})]
User = Annotated[str, Query(description=f"Id of the user, at most {MAX_ID_BYTES} bytes.", json_schema_extra=_ID)]
Now = Annotated[int | None, Query(ge=0, le=END_OF_TIME_MS, description=_NOW)]
Seen = Annotated[bool, Query(description="Also items that the user has acted on.")]


def _listed(most: int) -> Any:
    return Query(
        description=f"1 to {most:,} item ids with commas between; one with a comma in quotes.",
        json_schema_extra={"minLength": 1, "pattern": r"^[^,]+(,[^,]+)*$"},
    )


Items = Annotated[str, _listed(MAX_ITEMS)]
ExplainedItems = Annotated[str, _listed(MAX_EXPLAINED)]
Ids = Annotated[
    str,
    Query(
        description=f"Item ids with commas between, at most {MAX_ITEMS:,}; empty: no such filter. POST takes any id.",
        json_schema_extra={"pattern": r"^([^,]+(,[^,]+)*)?$"},
    ),
]
Allowed = Annotated[
    str | None,
    Query(
        description=f"The only item ids that may be answered, 1 to {MAX_ITEMS:,} with commas between.",
        json_schema_extra={"minLength": 1, "pattern": r"^[^,]+(,[^,]+)*$"},
    ),
]
Features = Annotated[
    list[str],
    Query(
        description="name=value of the catalogue that an item needs; may be given again.",
        examples=[["genre=Drama"]],
        json_schema_extra={"items": {"type": "string", "pattern": "^[^=]+=.+$"}},
    ),
]
Diversity = Annotated[
    float,
    Query(description="0: the best; towards 1: those least like each other (MMR).", ge=0, le=1, allow_inf_nan=False),
]
OneItem = Annotated[str, Query(description="Id of the item.", examples=["1"], json_schema_extra=_ID)]
Last = Annotated[int, Query(description="Events wanted.", json_schema_extra={"minimum": 1, "maximum": MAX_K})]
Newest = Annotated[
    int,
    Query(
        description="Newest events of which each is left out once.",
        json_schema_extra={"minimum": 0, "maximum": MAX_EXPLAINED},
    ),
]


def _whole(value: Any) -> Any:
    """Return 3.0 as 3: both are integers in JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Whole = BeforeValidator(_whole)
_Id = Annotated[str, Field(json_schema_extra=_ID)] | int
_AnyIds = Annotated[list[_Id], Field(max_length=MAX_ITEMS)]
_Ids = Annotated[list[_Id], Field(max_length=MAX_ITEMS, json_schema_extra={"minItems": 1})]
_Some = Annotated[list[_Id], Field(max_length=MAX_USERS, min_length=1)]
_Feature = Annotated[str, Field(json_schema_extra={"pattern": "^[^=]+=.+$"})]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    now_ms: Annotated[int | None, _Whole] = Field(None, ge=0, le=END_OF_TIME_MS, description=_NOW)


class _Wanted(_Question):
    """How many items, and which."""

    k: Annotated[int, _Whole] = Field(10, json_schema_extra={"minimum": 1, "maximum": MAX_K})
    """Items wanted."""
    include_seen: bool = False
    """Also items of the history."""
    allow: _Ids | None = None
    """The only items that may be answered; null: all."""
    deny: _AnyIds = []
    """Items that may not."""
    features: Annotated[list[_Feature], Field(max_length=100)] = []
    """name=value of the catalogue; an item needs all of them."""
    diversity: float = Field(0.0, ge=0, le=1, strict=False)
    """0: the best; towards 1: those least like each other (MMR)."""

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of Answerer.topk and topk_sequence."""
        allow = None if self.allow is None else [id_text(item) for item in self.allow]
        filters = Filters(allow, [id_text(item) for item in self.deny], self.features, self.diversity)
        return {"include_seen": self.include_seen, "filters": filters}


class TopKQuestion(_Wanted):
    """A sequence in place of a user."""

    sequence: _Ids
    """Items acted on, oldest first; the most is 2,000, of 256 bytes each."""


class BatchQuestion(_Wanted):
    """Several users."""

    users: _Some
    """Ids of the users."""


class RankBatchQuestion(_Question):
    """The same candidates for several users."""

    users: _Some
    """Ids of the users."""
    items: _Ids
    """Ids of the candidates."""


class _Explained(_Question):
    """Items whose scores are to be explained."""

    items: Annotated[list[_Id], Field(max_length=MAX_EXPLAINED, json_schema_extra={"minItems": 1})]
    """Ids of the items."""
    include_seen: bool = False
    """Whether the scores are those of /topk with include_seen."""
    newest: Annotated[int, _Whole] = Field(50, json_schema_extra={"minimum": 0, "maximum": MAX_EXPLAINED})
    """Newest events of which each is left out once."""


class ExplainQuestion(_Explained):
    """A user and items whose scores are to be explained."""

    user: _Id
    """Id of the user."""


class ExplainBatchQuestion(_Explained):
    """The same items explained for several users."""

    users: Annotated[list[_Id], Field(max_length=MAX_EXPLAINED_USERS, min_length=1)]
    """Ids of the users."""


class SimilarBatchQuestion(BaseModel):
    """Several items."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    items: _Some
    """Ids of the items."""
    k: Annotated[int, _Whole] = Field(10, json_schema_extra={"minimum": 1, "maximum": MAX_K})
    """Items wanted for each."""


class SimilarUsersQuestion(_Question):
    """A user, and those of whom some may be like this one."""

    user: _Id
    """Id of the user."""
    users: Annotated[list[_Id], Field(max_length=MAX_ALIKE, json_schema_extra={"minItems": 1})]
    """Ids of the users to compare with; the most is 1,000."""
    k: Annotated[int, _Whole] = Field(10, json_schema_extra={"minimum": 1, "maximum": MAX_K})
    """Users wanted."""


class AliasQuestion(BaseModel):
    """Where an alias shall point."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    alias: str = Field(json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"})
    """Name of the alias; `latest` is the trainer's own."""
    snapshot: str = Field(json_schema_extra={"minLength": 1})
    """Id of a snapshot; or an alias, whose present snapshot is meant."""


class RankQuestion(_Question):
    """Candidates to put in order for a user."""

    user: _Id
    """Id of the user."""
    items: _Ids
    """Ids of the candidates; the most is 2,000, of 256 bytes each."""


class JsonRoute(APIRoute):
    """A route that decodes bodies by `decode_body`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request, which it gives its own way to decode JSON."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handled


class _JsonRequest(Request):
    async def body(self) -> bytes:
        """Return the body; raises HTTPException 413 as soon as it is too large."""
        if not hasattr(self, "_body"):
            if int(self.headers.get("content-length", 0)) > BODY_BYTES:
                raise HTTPException(413)
            body = bytearray()
            async for chunk in self.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    raise HTTPException(413)
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        body = await self.body()
        if len(body) <= _LARGE_BYTES:
            return decode_body(body)
        return await run_sync(decode_body, body, limiter=self.app.state.one_large)


class _Fields(msgspec.Struct, forbid_unknown_fields=True):
    """All fields of all questions; which of them a question has is left to it."""

    user: str | int | UnsetType = UNSET
    items: list[str | int] | UnsetType = UNSET
    sequence: list[str | int] | UnsetType = UNSET
    k: int | float | UnsetType = UNSET
    include_seen: bool | UnsetType = UNSET
    users: list[str | int] | UnsetType = UNSET
    allow: list[str | int] | UnsetType | None = UNSET
    deny: list[str | int] | UnsetType = UNSET
    features: list[str] | UnsetType = UNSET
    diversity: int | float | UnsetType = UNSET
    newest: int | float | UnsetType = UNSET
    alias: str | UnsetType = UNSET
    snapshot: str | UnsetType = UNSET
    now_ms: int | float | UnsetType | None = UNSET


_BODY: Final = msgspec.json.Decoder(_Fields)
_PAIRS: Final = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str)  # of what _BODY has taken


def decode_body(body: bytes) -> dict[str, Any]:
    """Return the fields of a body.

    Raises:
        JSONDecodeError: It is no JSON object of known fields, each of them once, with a scalar or a list of ids.
    """
    try:
        fields = msgspec.structs.asdict(_BODY.decode(body))
    except (msgspec.DecodeError, UnicodeError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None
    given = {name: value for name, value in fields.items() if value is not UNSET}
    names = [name for name, _ in _PAIRS.decode(body.decode())]
    if len(names) > len(given):
        doubled = next(name for place, name in enumerate(names) if name in names[:place])
        raise json.JSONDecodeError(f"the field {doubled!r} is there more than once", "", 0)
    return given
