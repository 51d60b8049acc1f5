"""The joiner's oracle: naive code that is plainly right."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stream.config import StreamSettings
from stream.example import Example
from stream.schema.ids import NO_KEY, attribute_text, id_key, id_text
from stream.schema.tokens import Kind

Wire = dict[str, Any]  # an event as JSON


class Token(NamedTuple):
    """One element of a user's sequence; `action` is NO_KEY unless the kind is ACTION."""

    key: int
    action: int
    ts_ms: int
    kind: int


@dataclass
class OracleUser:
    """Everything about one user, with nothing ever dropped or stored."""

    key: int
    tokens: list[Token] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    open: list[dict[str, Any]] = field(default_factory=list)
    gathered: list[dict[str, Any]] = field(default_factory=list)
    gathered_ms: int = 0
    requests: int = 0
    texted: int = 0


@dataclass
class Joined:
    """The oracle's result for one partition."""

    tokens: dict[int, list[Token]]
    examples: list[Example]


def join(events: dict[str, list[Wire]], settings: StreamSettings, partition: int) -> Joined:
    """Sort all events, join them in memory, user by user, to the end of time."""
    texts: dict[int, str] = {}
    users: dict[int, OracleUser] = {}
    departures: list[tuple[tuple[int, int, int, int, int], OracleUser, list[dict[str, Any]]]] = []
    by_user: dict[int, dict[str, list[Wire]]] = {}
    for topic, wires in events.items():
        for wire in wires:
            by_user.setdefault(_key(wire["user_id"], texts), {}).setdefault(topic, []).append(wire)
    for key, own in by_user.items():
        user = users[key] = OracleUser(key)
        departures += [(place, user, targets) for place, targets in _live(user, own, settings, texts)]
    departures.sort(key=lambda departure: departure[0])
    examples: list[Example] = []
    for (now_ms, *_), user, targets in departures:
        examples += _examples(user, targets, now_ms, settings, partition, len(examples), texts)
    return Joined({key: user.tokens for key, user in users.items()}, examples)


def _key(raw: str | int, texts: dict[int, str]) -> int:
    key = id_key(id_text(raw))
    texts[key] = id_text(raw)
    return key


def _live(user: OracleUser, own: dict[str, list[Wire]], settings: StreamSettings, texts: dict[int, str]) -> list[Any]:
    """Go through every millisecond at which something happens to one user; return when which targets leave."""
    window, gather = int(settings.action_window_s * 1000), int(settings.gather_s * 1000)
    out: list[Any] = []

    def leave(now: int, phase: int, number: int) -> None:
        out.append(((now, phase, user.key, number, len(out)), user.gathered))
        user.gathered = []

    def gathering(targets: list[dict[str, Any]], now: int, phase: int, number: int) -> None:
        if not user.gathered:
            user.gathered_ms = now
        user.gathered += targets
        if len(user.gathered) >= settings.gather_targets:
            leave(now, phase, number)

    event_times = {wire["ts"] for wires in own.values() for wire in wires}
    while True:
        due = [request["ts"] + window for request in user.open]
        due += [user.gathered_ms + gather] if user.gathered else []
        if not event_times and not due:
            return out
        now = min([*event_times, *due])
        for request in [request for request in user.open if request["ts"] + window == now]:
            user.open.remove(request)
            if not request["final"]:
                gathering(request["targets"], now, 0, request["number"])
        if user.gathered and user.gathered_ms + gather == now:
            leave(now, 1, 0)
            if now not in event_times:
                continue
        if now in event_times:
            event_times.remove(now)
            _instant(user, now, own, settings, texts, gathering)
            if gather == 0 and user.gathered:
                leave(now, 3, 0)


def _instant(
    user: OracleUser,
    now: int,
    own: dict[str, list[Wire]],
    settings: StreamSettings,
    texts: dict[int, str],
    gathering: Any,
) -> None:
    attributes = {
        (_key(attribute_text(w["name"], _value(w["value"])), texts), w["name"], _value(w["value"]))
        for w in own.get("attributes", [])
        if w["ts"] == now
    }
    for key, name, value in sorted(attributes):
        if user.attributes.get(name) != value:
            user.attributes.pop(name, None)
            user.attributes[name] = value
            for forgotten in list(user.attributes)[: -settings.user_attributes]:
                del user.attributes[forgotten]
            user.tokens.append(Token(key, NO_KEY, now, Kind.ATTRIBUTE))
    slates = {
        (_key(w["request_id"], {}), tuple(_key(item, texts) for item in w["items"]))
        for w in own.get("impressions", [])
        if w["ts"] == now
    }
    query = len(user.tokens) - 1
    for request_key, items in sorted(slates):
        if len(user.open) >= settings.open_requests:
            user.tokens += [Token(item, NO_KEY, now, Kind.IMPRESSION) for item in items]
            continue
        user.requests += 1
        request = {"key": request_key, "number": user.requests, "ts": now, "final": False, "targets": []}
        user.open.append(request)
        for item in items:
            user.tokens.append(Token(item, NO_KEY, now, Kind.IMPRESSION))
            request["targets"].append(_target(user, query, request["number"], now, item, []))
    actions = {
        (
            _key(w["item_id"], texts),
            _key(w["action"], texts),
            NO_KEY if w.get("request_id") is None else _key(w["request_id"], {}),
            str(w.get("value")),
        )
        for w in own.get("actions", [])
        if w["ts"] == now
    }
    for item, action, asked, _ in sorted(actions, key=lambda a: a[:3]):
        user.tokens.append(Token(item, action, now, Kind.ACTION))
        _answer(user, item, action, asked, now, gathering)


def _answer(user: OracleUser, item: int, action: int, asked: int, now: int, gathering: Any) -> None:
    fits = [r for r in user.open if asked in (NO_KEY, r["key"]) and any(t["item"] == item for t in r["targets"])]
    unfinished = [r for r in fits if not r["final"]]
    if unfinished:
        request = unfinished[-1]
        labels = next(t["labels"] for t in request["targets"] if t["item"] == item)
        if action not in labels:
            labels.append(action)
        if all(t["labels"] for t in request["targets"]):
            request["final"] = True
            gathering(request["targets"], now, 2, 0)
    elif not fits and asked == NO_KEY:
        user.requests += 1
        position = len(user.tokens) - 1
        gathering([_target(user, position - 1, user.requests, now, item, [action])], now, 2, 0)


def _target(user: OracleUser, query: int, request: int, now: int, item: int, labels: list[int]) -> dict[str, Any]:
    return {
        "position": len(user.tokens) - 1,
        "query": query,
        "request": request,
        "request_ms": now,
        "item": item,
        "labels": labels,
    }


def _value(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _examples(
    user: OracleUser,
    targets: list[dict[str, Any]],
    now: int,
    settings: StreamSettings,
    partition: int,
    before: int,
    texts: dict[int, str],
) -> list[Example]:
    examples: list[Example] = []
    rest = sorted(targets, key=lambda t: t["position"])
    while rest:
        chunk = [t for t in rest if t["position"] - rest[0]["position"] < settings.example_tokens // 2]
        rest = rest[len(chunk) :]
        end = chunk[-1]["position"] + 1
        start = max(0, end - settings.example_tokens)
        told: list[int] = []
        for token in user.tokens[max(start, user.texted) : end]:
            told += [key for key in (token.key, token.action) if key != NO_KEY and key not in told]
        user.texted = max(user.texted, end)
        columns = list(zip(*user.tokens[start:end], strict=True))
        labels = [label for t in chunk for label in t["labels"]]
        examples.append(
            Example(
                *(partition, before + len(examples) + 1, now, user.key, start),
                *(np.array(columns[0], "<u8"), np.array(columns[1], "<u8"), np.array(columns[2], "<i8")),
                np.array(columns[3], "u1"),
                np.array([t["position"] - start for t in chunk], "<i4"),
                np.array([t["query"] - start if t["query"] >= start else -1 for t in chunk], "<i4"),
                np.array([t["request"] for t in chunk], "<u4"),
                np.array([t["request_ms"] for t in chunk], "<i8"),
                np.cumsum([0, *(len(t["labels"]) for t in chunk)]).astype("<u4"),
                np.array(labels, "<u8"),
                np.array(told, "<u8"),
                tuple(texts[key] for key in told),
            )
        )
    return examples
