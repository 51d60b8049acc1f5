"""The joiner of one partition: events in event-time order become tokens, and targets once their label is final.

It is a function of the events alone. Time moves in instants; at each, what falls due comes first (windows that end, by
user and request; then gathered targets that leave, by user), then the instant's events by Event.order. So neither the
interleaving of the topics nor the cutting of batches can show. Kafka, the store and the clock are not known here.

- An impression opens a request. Its label is final when its window ends or every item has been acted on.
- An action answers the open request that its request_id names, or without one the newest that shows the item. An
  action on a request whose label is final is a late label: a token, counted. One that nothing open shows is organic: a
  retrieval target of its own, final at once. One that names a request which is not open is a late label too.
- Targets that became final are gathered until `gather_targets` of them or `gather_s` after the first, then leave.
"""

import heapq
import struct
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from xxhash import xxh3_128_digest

from stream.config import StreamSettings
from stream.example import Example
from stream.join.example_builder import TextOf, assemble
from stream.schema.events import Event
from stream.schema.ids import NO_KEY
from stream.schema.tokens import END_OF_TIME_MS, TOKEN, Kind
from stream.store.layout import BLOCK, Counters, Request, Target, UserState
from stream.store.user_cache import CachedUser, Get, UserCache

_PLACE: Final = struct.Struct("<QQ")
_DIGEST: Final = 2**128
_WINDOW, _LEAVE = 0, 1  # what falls due, in the order of one instant
_DAY_MS: Final = 86_400_000
_USER: Final = attrgetter("user")


class Joiner:
    """Joins one partition's events.

    `digest` is the sum, modulo 2**128, of xxh3_128(user, position, token) over all tokens ever appended: equal for
    equal sequences, whatever the order in which users took turns.
    """

    def __init__(
        self, partition: int, settings: StreamSettings, users: UserCache, counters: Counters, get: Get, text_of: TextOf
    ) -> None:
        self.partition = partition
        self.serial = 0
        self.digest = 0
        self._settings = settings
        self._users = users
        self._counters = counters
        self._get = get
        self._text_of = text_of
        self._age_ms = int(settings.history_days * _DAY_MS)
        self._window_ms = int(settings.action_window_s * 1000)
        self._gather_ms = int(settings.gather_s * 1000)
        self._due: list[tuple[int, int, int, int]] = []  # time, what, user, number of the request
        self._examples: list[Example] = []
        self._example_tokens = 0  # in these

    def resume(self, user: int) -> None:
        """Take up what time alone will change about a user that was active when the store was closed."""
        member = self._users.find(user)
        assert member is not None
        for request in member.state.open:
            self._fall_due(request.ts_ms + self._window_ms, _WINDOW, user, request.number)
        if member.state.gathered:
            self._fall_due(member.state.gathered_ms + self._gather_ms, _LEAVE, user, 0)

    def run(
        self, until_ms: int, instants: list[int], events_at: Callable[[int], Sequence[Event]], most: int
    ) -> list[Example]:
        """Live through the instants before `until_ms` and give the examples that left, in order.

        Args:
            until_ms: the watermark; nothing older can come.
            instants: a heap of the times of waiting events, from which those lived through are taken.
            events_at: gives an instant's events by Event.order, without repeats.
            most: stop as soon as the examples have so many tokens; `next_ms` then says where.
        """
        while self._example_tokens < most and (now_ms := self.next_ms(instants)) < until_ms:
            if self._due and self._due[0][0] == now_ms:
                self._fulfil(*heapq.heappop(self._due))
            else:
                heapq.heappop(instants)
                for user, events in groupby(events_at(now_ms), key=_USER):
                    self._join(user, now_ms, list(events))
        left, self._examples, self._example_tokens = self._examples, [], 0
        return left

    def next_ms(self, instants: list[int]) -> int:
        """Give the first instant not lived through, END_OF_TIME_MS where there is none."""
        event_ms = instants[0] if instants else END_OF_TIME_MS
        return min(event_ms, self._due[0][0]) if self._due else event_ms

    def _fall_due(self, at_ms: int, what: int, user: int, number: int) -> None:
        heapq.heappush(self._due, (at_ms, what, user, number))

    def _fulfil(self, now_ms: int, what: int, user: int, number: int) -> None:
        member = self._users.touch(user)
        state = member.state
        if what == _LEAVE:
            if state.gathered and state.gathered_ms + self._gather_ms == now_ms:
                self._leave(member, now_ms)
            return
        request = next(request for request in state.open if request.number == number)
        state.open.remove(request)
        if not request.final:
            self._gather(member, request.targets, now_ms)

    def _join(self, user: int, now_ms: int, events: list[Event]) -> None:
        """Append what one user saw and did at one instant: attributes, then slates, then actions."""
        member = self._users.touch(user, events[0].texts[0][1])
        before = member.state.length
        slates = [event for event in events if event.order[1] == Kind.IMPRESSION]
        for event in events:
            if event.order[1] == Kind.ATTRIBUTE:
                self._describe(member, event)
        if slates:
            self._show(member, slates, now_ms)
        for event in events:
            if event.order[1] == Kind.ACTION:
                self._act(member, event)
        self._forget(member, now_ms, new_block=member.state.length // BLOCK > before // BLOCK)

    def _append(self, member: CachedUser, key: int, action: int, ts_ms: int, kind: Kind) -> int:
        token = TOKEN.pack(key, action, ts_ms, kind)
        position = member.append(token)
        added = int.from_bytes(xxh3_128_digest(_PLACE.pack(member.key, position) + token))
        self.digest = (self.digest + added) % _DIGEST
        self._counters.tokens += 1
        return position

    def _describe(self, member: CachedUser, event: Event) -> None:
        _, _, value, name = event.order
        if member.state.attributes.get(name) != value:
            member.state.attributes[name] = value
            self._append(member, value, NO_KEY, event.ts_ms, Kind.ATTRIBUTE)

    def _show(self, member: CachedUser, slates: list[Event], now_ms: int) -> None:
        state = member.state
        query = state.length - 1
        opened = []
        for slate in slates:
            _, _, key, items = slate.order
            state.requests += 1
            opened.append(Request(state.requests, key, now_ms, list(items), []))
        shown = sorted((item, request.key, place) for place, request in enumerate(opened) for item in request.items)
        for item, _, place in shown:
            request = opened[place]
            position = self._append(member, item, NO_KEY, now_ms, Kind.IMPRESSION)
            request.targets.append(Target(position, query, request.number, now_ms, []))
        for request in opened:
            request.items.sort()
            state.open.append(request)
            self._fall_due(now_ms + self._window_ms, _WINDOW, member.key, request.number)

    def _act(self, member: CachedUser, event: Event) -> None:
        _, _, item, action, asked, _ = event.order
        state = member.state
        position = self._append(member, item, action, event.ts_ms, Kind.ACTION)
        request = _answered(state, item, asked)
        if request is None and asked == NO_KEY:
            state.requests += 1
            organic = Target(position, position - 1, state.requests, event.ts_ms, [action])
            self._gather(member, [organic], event.ts_ms)
        elif request is None or request.final:
            self._counters.late_labels += 1
        else:
            labels = request.targets[request.items.index(item)].labels
            if action not in labels:
                labels.append(action)
            if all(target.labels for target in request.targets):
                request.final = True
                final, request.targets = request.targets, []
                self._gather(member, final, event.ts_ms)

    def _gather(self, member: CachedUser, targets: list[Target], now_ms: int) -> None:
        state = member.state
        if not state.gathered:
            state.gathered_ms = now_ms
            self._fall_due(now_ms + self._gather_ms, _LEAVE, member.key, 0)
        state.gathered += targets
        if len(state.gathered) >= self._settings.gather_targets:
            self._leave(member, now_ms)

    def _leave(self, member: CachedUser, now_ms: int) -> None:
        targets, member.state.gathered = member.state.gathered, []
        for example in assemble(
            member,
            targets,
            partition=self.partition,
            serial=self.serial + 1,
            final_ms=now_ms,
            limit=self._settings.example_tokens,
            get=self._get,
            text_of=self._text_of,
        ):
            self._examples.append(example)
            self._example_tokens += len(example.keys)
            self.serial = example.serial
        self._counters.targets += len(targets)

    def _forget(self, member: CachedUser, now_ms: int, *, new_block: bool) -> None:
        """Drop whole blocks beyond the kept length or age, but none that an open request or a target needs."""
        state = member.state
        too_long = state.length - state.first >= self._settings.history_tokens + BLOCK
        maybe_old = self._age_ms and new_block
        if not (too_long or maybe_old):
            return
        needed = [target.query for request in state.open for target in request.targets]
        needed += [target.query for target in state.gathered]
        last = min([state.length - 1, *needed]) // BLOCK * BLOCK
        if too_long:
            state.first = max(state.first, min(last, (state.length - self._settings.history_tokens) // BLOCK * BLOCK))
        if maybe_old:
            while state.first < last and member.ts_ms(state.first + BLOCK - 1, self._get) < now_ms - self._age_ms:
                state.first += BLOCK


def _answered(state: UserState, item: int, asked: int) -> Request | None:
    """Give the newest request in its window that shows the item (and is the one asked for); one still open first."""
    final = None
    for request in reversed(state.open):
        if (asked == NO_KEY or request.key == asked) and item in request.items:
            if not request.final:
                return request
            final = final or request
    return final
