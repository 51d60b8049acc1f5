"""The joiner of one partition: events in event-time order become tokens, and targets once their label is final.

Its results depend on the events alone. Time moves in instants; at each, what falls due comes first (windows that end,
by user and request; then gathered targets that leave, by user), then the instant's events by their sort keys. So
neither the interleaving of topics nor the size of batches changes a result. It knows no Kafka, no store, no clock.

- An impression opens a request. Its label is final when its window ends or every item has been acted on.
- An action answers the open request that its request_id names, or without one the newest that shows the item. An
  action on a request whose label is final is a late label: a token, counted. An action on an item that nothing open
  shows is organic: a retrieval target, final at once. One that names a request which is not open is a late label too.
- A user who is forgotten is erased, with all events up to that instant; later ones begin a new sequence. An example
  without tokens says so to trainers. Labels that were not final yet never leave.
- Targets that became final are gathered until there are `gather_targets` of them or the first is `gather_s` old; then
  they leave as examples.
- A user has at most `open_requests` requests inside their windows: the tokens of a further slate are appended, and it
  becomes no request. So what an event costs does not depend on what its user does.
"""

import struct
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from xxhash import xxh3_128_intdigest

from stream.config import StreamSettings
from stream.join.example_builder import Built, ExampleBuilder
from stream.join.reorder_buffer import BufferedEvent, ReorderBuffer
from stream.join.timers import Timers
from stream.schema.dead_letters import RefusedError
from stream.schema.events import ActionEvent, AttributeEvent, Event, ForgetEvent, ImpressionEvent
from stream.schema.ids import NO_KEY, partition_of
from stream.schema.tokens import Kind
from stream.store.caches import CachedUser, TextIndex, UserCache, collision
from stream.store.layout import BLOCK, Meta, Request, Target

_PLACED: Final = struct.Struct("<QQQQqB")  # user, position, and the token (tokens.py)
_PLACE_BYTES: Final = 16
_DIGEST: Final = 2**128
_WINDOW, _LEAVE = 0, 1  # what falls due, in the order of one instant
_DAY_MS: Final = 86_400_000
_USER: Final = attrgetter("user")


Refusal = tuple[BufferedEvent, RefusedError]


class Joined(NamedTuple):
    """What a run of the joiner gives."""

    examples: list[Built]  # that have left, in order
    refusals: list[Refusal]  # events whose id collides with another's
    complete: bool  # whether nothing before the watermark is left


class Joiner:
    """Joins one partition's events.

    `digest` is the sum, modulo 2**128, of xxh3_128(user, position, token) over all tokens ever appended: equal for
    equal sequences, whatever the order in which users took turns.

    Args:
        partition: The partition's number.
        settings: Shared by all workers.
        users: The partition's users.
        texts: The texts of all other ids.
        timers: What falls due when: windows that end, targets that leave.
        meta: How far the partition has come; its counters go on counting.
    """

    def __init__(
        self,
        partition: int,
        settings: StreamSettings,
        users: UserCache,
        texts: TextIndex,
        timers: Timers,
        meta: Meta,
    ) -> None:
        self.digest = int.from_bytes(meta.digest)
        self._partition = partition
        self._settings = settings
        self._users = users
        self._texts = texts
        self._counters = meta.counters
        self._builder = ExampleBuilder(partition, settings.example_tokens, texts, meta)
        self._age_ms = int(settings.history_days * _DAY_MS)
        self._window_ms = int(settings.action_window_s * 1000)
        self._gather_ms = int(settings.gather_s * 1000)
        self._timers = timers
        self._examples: list[Built] = []
        self._example_tokens = 0  # in these
        self.forgotten: dict[int, bool] = {}
        """Users forgotten so far, and whether they were known, for whoever clears the disk of them, and then this."""
        self._misrouted: set[int] = set()  # users of this instant that are counted as such

    @property
    def serial(self) -> int:
        """The serial of the last example."""
        return self._builder.serial

    @property
    def parent(self) -> bytes:
        """The digest of the last example's message."""
        return self._builder.parent

    def run(self, buffer: ReorderBuffer, until_ms: int, most: int) -> Joined:
        """Join instant by instant everything before `until_ms`, or until the examples have `most` tokens.

        Args:
            buffer: The events that wait; those joined are taken out.
            until_ms: The watermark; nothing older can come.
            most: How many tokens of examples are enough for one commit.
        """
        refusals: list[Refusal] = []
        timers = self._timers
        while (now_ms := min(timers.next_ms, buffer.next_ms)) < until_ms and self._example_tokens < most:
            if timers.next_ms == now_ms:
                self._fulfil_due()
            else:
                refusals += self._join_instant(now_ms, buffer.pop())
        examples, self._examples, self._example_tokens = self._examples, [], 0
        return Joined(examples, refusals, complete=now_ms >= until_ms)

    def _fulfil_due(self) -> None:
        """Do the next thing that falls due, unless it was done already, or its user erased, who may have come back."""
        now_ms, what, key, number = self._timers.pop()
        user = self._users.find(key)
        if user is None:
            return
        if what == _LEAVE:
            if user.state.gathered and user.state.leave_ms == now_ms:
                self._users.change(user)
                self._leave(user, now_ms)
        elif request := user.open.close(number, now_ms):
            self._users.change(user)
            if not request.final:
                self._gather(user, request.targets(), now_ms)

    def _join_instant(self, now_ms: int, waiting: Sequence[BufferedEvent]) -> list[Refusal]:
        """Join the sorted events of one instant; return those refused because an id collides with another's."""
        events: list[Event] = []
        refused: list[Refusal] = []
        for buffered in waiting:
            event = buffered.event
            if events and events[-1].sort_key == event.sort_key:
                self._counters.duplicates += 1
                continue
            try:
                self._check_user(event)
                self._texts.learn(event.texts)
            except RefusedError as error:
                refused.append((buffered, error))
            else:
                events.append(event)
        if self._misrouted:
            self._misrouted.clear()
        for own in [events] if len(events) == 1 else [list(group) for _, group in groupby(events, key=_USER)]:
            if isinstance(own[-1], ForgetEvent):
                self._erase(own[0].user, now_ms)
            else:
                self._join(own, now_ms)
        return refused

    def _check_user(self, event: Event) -> None:
        """Refuse a user whose key is another user's; count a new one whom Kafka's partitioner would put elsewhere."""
        user = self._users.find(event.user)
        if user is None:
            if not isinstance(event, ForgetEvent):  # which goes to every partition
                self._count_misrouted(event)
        elif user.state.text != event.user_text:
            raise collision(event.user, user.state.text, event.user_text)

    def _count_misrouted(self, event: Event) -> None:
        home = partition_of(event.user_text.encode(), self._settings.partitions)
        if home != self._partition and event.user not in self._misrouted:
            self._misrouted.add(event.user)
            self._counters.misrouted += 1

    def _join(self, events: list[Event], now_ms: int) -> None:
        """Append what one user saw and did at one instant; it is sorted: attributes, then slates, then actions."""
        user = self._users.touch(events[0].user, events[0].user_text)
        before, query = user.state.length, None
        for event in events:
            if isinstance(event, ActionEvent):
                self._act(user, event)
            elif isinstance(event, ImpressionEvent):
                query = user.state.length - 1 if query is None else query
                self._show(user, event, query)
            elif isinstance(event, AttributeEvent):
                self._set_attribute(user, event)
        self._forget(user, now_ms, new_block=user.state.length // BLOCK > before // BLOCK)

    def _erase(self, key: int, now_ms: int) -> None:
        """Erase a user; only note it where it is unknown."""
        user = self._users.find(key)
        self.forgotten[key] = user is not None or self.forgotten.get(key, False)
        if user is None:
            return
        for request in user.open:
            self._timers.cancel(request.due_ms, _WINDOW, key, request.number)
        if user.state.gathered:
            self._timers.cancel(user.state.leave_ms, _LEAVE, key, 0)
        self._users.erase(key)
        self._examples.append(self._builder.farewell(key, now_ms))

    def _append(self, user: CachedUser, keys: Sequence[int], action: int, ts_ms: int, kind: Kind) -> int:
        """Append a token for each key; return the position of the first."""
        position = user.state.length
        placed = [_PLACED.pack(user.key, place, key, action, ts_ms, kind) for place, key in enumerate(keys, position)]
        user.append(b"".join([token[_PLACE_BYTES:] for token in placed]))
        self.digest = (self.digest + sum(map(xxh3_128_intdigest, placed))) % _DIGEST
        self._counters.tokens += len(placed)
        return position

    def _set_attribute(self, user: CachedUser, event: AttributeEvent) -> None:
        known = user.state.attributes
        if known.get(event.name) == event.value:
            return
        known.pop(event.name, None)
        known[event.name] = event.value
        if len(known) > self._settings.user_attributes:
            del known[next(iter(known))]
            self._counters.dropped_attributes += 1
        self._append(user, (event.value,), NO_KEY, event.ts_ms, Kind.ATTRIBUTE)

    def _show(self, user: CachedUser, slate: ImpressionEvent, query: int) -> None:
        state, now_ms = user.state, slate.ts_ms
        position = self._append(user, slate.items, NO_KEY, now_ms, Kind.IMPRESSION)
        if len(user.open) >= self._settings.open_requests:
            self._counters.dropped_requests += 1
            return
        state.requests += 1
        due_ms = now_ms + self._window_ms
        user.open.add(Request(state.requests, slate.request, now_ms, due_ms, query, position, list(slate.items), {}))
        self._timers.set(due_ms, _WINDOW, user.key, state.requests)

    def _act(self, user: CachedUser, event: ActionEvent) -> None:
        state = user.state
        position = self._append(user, (event.item,), event.action, event.ts_ms, Kind.ACTION)
        request = user.open.answered(event.item, event.request)
        if request is None and event.request == NO_KEY:
            state.requests += 1
            organic = Target(position, position - 1, state.requests, event.ts_ms, [event.action])
            self._gather(user, [organic], event.ts_ms)
        elif request is None or request.final:
            self._counters.late_labels += 1
        else:
            labels = request.labels.setdefault(request.items.index(event.item), [])
            if event.action not in labels:
                labels.append(event.action)
                user.open.change(request)
            if len(request.labels) == len(request.items):
                request.final = True
                self._gather(user, request.targets(), event.ts_ms)

    def _gather(self, user: CachedUser, targets: list[Target], now_ms: int) -> None:
        state = user.state
        if not state.gathered:
            state.leave_ms = now_ms + self._gather_ms
            self._timers.set(state.leave_ms, _LEAVE, user.key, 0)
        state.gathered += targets
        if len(state.gathered) >= self._settings.gather_targets:
            self._timers.cancel(state.leave_ms, _LEAVE, user.key, 0)
            self._leave(user, now_ms)

    def _leave(self, user: CachedUser, now_ms: int) -> None:
        targets, user.state.gathered = user.state.gathered, []
        for example in self._builder.build(user, targets, now_ms):
            self._examples.append(example)
            self._example_tokens += example.tokens
        self._counters.targets += len(targets)

    def _forget(self, user: CachedUser, now_ms: int, *, new_block: bool) -> None:
        """Drop whole blocks beyond the kept length or age, but none that an open request or a target needs."""
        state = user.state
        too_long = state.length - state.first >= self._settings.history_tokens + BLOCK
        maybe_old = self._age_ms and new_block
        if not (too_long or maybe_old):
            return
        needed = [state.length - 1, *(target.query for target in state.gathered)]
        if oldest := user.open.oldest:
            needed.append(oldest.query)
        last = min(needed) // BLOCK * BLOCK
        if too_long:
            state.first = max(state.first, min(last, (state.length - self._settings.history_tokens) // BLOCK * BLOCK))
        if maybe_old:
            while state.first < last and user.ts_ms(state.first + BLOCK - 1) < now_ms - self._age_ms:
                state.first += BLOCK
