"""`hstu query`: topk, rank, explain, similar, freshness.

Only typer is imported here; a command imports what it needs when it runs.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from model.options import DataDir, Json, ModelCliSettings, Name, snapshots_directory
from model.query.context import ModelCliContext, settings_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from model.serving.answerer import Answerer
    from model.serving.responses import Explanation, Ranking, Similar, SnapshotInfo, TopK

query_app = typer.Typer(no_args_is_help=True, help="Ask a snapshot: topk, rank, explain, similar, freshness.")

_LEAST: Final = 0.00005  # a part of a score that is shown
_NAMED: Final = 10  # unknown ids
_READ_AS: Final = {
    None: "The snapshot does not know",
    "frozen": "Have left the vocabulary, and count by the vectors that they had then",
    "stand_in": "Have no row, and count as what stands in for such items",
}

Users = Annotated[str | None, typer.Option("--users", help="Ids of several users, a,b,c, up to 100.")]
Seen = Annotated[bool, typer.Option("--include-seen", help="Also items the user has acted on.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="Ask as of this event time, ms or ISO 8601: by the snapshot and the tokens of then."),
]
Alias = Annotated[str | None, typer.Option("--alias", help="Alias or id of the snapshot.")]


@query_app.command("topk")
def query_topk(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="Id of the user.")] = None,
    sequence: Annotated[str | None, typer.Option("--sequence", help="Item ids a,b,c in place of a user's.")] = None,
    k: Annotated[int, typer.Option("-k", help="Items wanted, up to 1000.")] = 10,
    include_seen: Seen = False,
    users: Users = None,
    allow: Annotated[str | None, typer.Option("--allow", help="The only item ids that may be answered, a,b,c.")] = None,
    deny: Annotated[str | None, typer.Option("--deny", help="Item ids that may not, a,b,c.")] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", help="name=value of the catalogue; may be given again.")
    ] = None,
    diversity: Annotated[
        float, typer.Option("--diversity", help="0: the best; towards 1: those least like each other.")
    ] = 0.0,
    as_of: AsOf = None,
    as_json: Json = False,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Print the best live items for a user or for several, or after a sequence of items."""
    from model.serving.filters import Filters
    from model.serving.responses import QueryError, TopKBatch, check_k, check_pairs, split_ids

    if [user, sequence, users].count(None) != 2:
        raise QueryError("Give one of --user, --users and --sequence.")
    if sequence is not None and as_of is not None:
        raise QueryError("--as-of is about a user's events; give it with --user or --users.")
    filters = Filters(None if allow is None else split_ids(allow), split_ids(deny), feature or (), diversity)
    settings = settings_of(ctx, name, alias, data_dir)
    if sequence is None:
        with _answerer(ctx, settings, as_of) as (answerer, now_ms):
            each = [user] if user is not None else split_ids(users)
            check_k(k)
            check_pairs(len(each), k)
            found = [answerer.topk(one, k, now_ms, include_seen=include_seen, filters=filters) for one in each]
        if users is not None and as_json:
            _print_json(TopKBatch(answers=found))
            return
        for answer in found:
            _print_topk(answer, as_json)
        return
    answerer = _answerer_alone(settings)
    answer = answerer.topk_sequence(split_ids(sequence), k, include_seen=include_seen, filters=filters)
    _print_topk(answer, as_json)


@query_app.command("rank")
def query_rank(
    ctx: typer.Context,
    items: Annotated[str, typer.Option("--items", help="Item ids a,b,c, up to 2000; one with a comma in quotes.")],
    user: Annotated[str | None, typer.Option("--user", help="Id of the user.")] = None,
    users: Users = None,
    as_of: AsOf = None,
    as_json: Json = False,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Put items in order for a user or for several, with the probability of each action."""
    from model.serving.responses import QueryError, RankingBatch, check_pairs, split_ids

    if (user is None) == (users is None):
        raise QueryError("Give either --user or --users.")
    with _answerer(ctx, settings_of(ctx, name, alias, data_dir), as_of) as (answerer, now_ms):
        each, candidates = [user] if user is not None else split_ids(users), split_ids(items)
        check_pairs(len(each), len(candidates))
        found = [answerer.rank(one, candidates, now_ms) for one in each]
    if users is not None and as_json:
        _print_json(RankingBatch(answers=found))
        return
    for answer in found:
        _print_ranking(answer, as_json)


@query_app.command("explain")
def query_explain(
    ctx: typer.Context,
    items: Annotated[str, typer.Option("--items", help="Item ids a,b,c, up to 100.")],
    user: Annotated[str | None, typer.Option("--user", help="Id of the user.")] = None,
    users: Users = None,
    newest: Annotated[int, typer.Option("--newest", help="Newest events of which each is left out once.")] = 50,
    include_seen: Seen = False,
    as_of: AsOf = None,
    as_json: Json = False,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Print why items have their scores: what the counts add, and what each event of the user moves."""
    from model.serving.responses import ExplanationBatch, QueryError, check_explained, split_ids

    if (user is None) == (users is None):
        raise QueryError("Give either --user or --users.")
    with _answerer(ctx, settings_of(ctx, name, alias, data_dir), as_of) as (answerer, now_ms):
        each, asked = [user] if user is not None else split_ids(users), split_ids(items)
        check_explained(len(each))
        found = [answerer.explain(one, asked, now_ms, include_seen=include_seen, newest=newest) for one in each]
    if users is not None and as_json:
        _print_json(ExplanationBatch(answers=found))
        return
    for answer in found:
        if as_json:
            _print_json(answer)
        else:
            _print_explanation(answer)


@query_app.command("similar")
def query_similar(
    ctx: typer.Context,
    item: Annotated[str | None, typer.Option("--item", help="Id of the item.")] = None,
    items: Annotated[str | None, typer.Option("--items", help="Ids of several items, a,b,c.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Id of a user.")] = None,
    users: Annotated[
        str | None, typer.Option("--users", help="Users to compare with, a,b,c; by default a sample of this host's.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Items or users wanted, up to 1000.")] = 10,
    as_json: Json = False,
    name: Name = None,
    alias: Alias = None,
    data_dir: DataDir = None,
) -> None:
    """Print the live items whose vectors are most like an item's, or the users whom the model recommends most alike."""
    from model.serving.responses import QueryError, SimilarBatch, check_pairs, split_ids

    if [item, items, user].count(None) != 2:
        raise QueryError("Give one of --item, --items and --user.")
    if users is not None and user is None:
        raise QueryError("--users are compared with a user; give --user.")
    settings = settings_of(ctx, name, alias, data_dir)
    if user is not None:
        _print_similar_users(ctx, settings, user, users, k, as_json)
        return
    answerer = _answerer_alone(settings)
    if item is not None:
        _print_similar(answerer.similar(item, k), as_json)
        return
    each = split_ids(items)
    check_pairs(len(each), k, "items with {} like")
    batch = SimilarBatch.of(each, partial(answerer.similar, k=k))
    if as_json:
        _print_json(batch)
        return
    for answer in batch.answers:
        _print_similar(answer, as_json)
    for why in batch.unknown.values():
        typer.echo(why, err=True)


def _print_similar(answer: "Similar", as_json: bool) -> None:
    if as_json:
        _print_json(answer)
        return
    from model.terminal import show_notes, show_table

    rows = [(place, one.item_id, one.title, one.similarity) for place, one in enumerate(answer.items, 1)]
    show_table(("", "item", "title", "cosine"), rows, f"Like {answer.title or answer.item_id}")
    show_notes(_origin(answer.snapshot))


def _print_similar_users(
    ctx: typer.Context, settings: ModelCliSettings, user: str, users: str | None, k: int, as_json: bool
) -> None:
    from model.serving.answerer import open_answerer
    from model.serving.responses import MAX_ALIKE, QueryError, split_ids
    from model.terminal import show_notes, show_table

    context: ModelCliContext = ctx.obj
    with closing(context.sequences(settings)) as sequences:
        others = sequences.first_users(MAX_ALIKE) if users is None else split_ids(users)
        if users is None and not others:
            raise QueryError("No store on this host has users to compare with; name them by --users.")
        answerer = open_answerer(snapshots_directory(settings), settings.serve.alias, sequences)
        answer = answerer.similar_users(user, others, k)
    if as_json:
        _print_json(answer)
        return
    rows = [(place, one.user, one.similarity, one.tokens) for place, one in enumerate(answer.users, 1)]
    show_table(("", "user", "cosine", "tokens"), rows, f"Like {user}")
    unknown = answer.unknown and f"The snapshot knows nothing of {_named(list(answer.unknown))}."
    compared = len({*others} - {user, *answer.unknown})
    show_notes(f"Compared with {compared:,} users.", unknown or None, _origin(answer.snapshot))


@query_app.command("freshness")
def query_freshness(
    ctx: typer.Context, as_json: Json = False, name: Name = None, alias: Alias = None, data_dir: DataDir = None
) -> None:
    """Print how old the snapshot is, and how far what it has learned is behind event time."""
    answer = _answerer_alone(settings_of(ctx, name, alias, data_dir)).freshness()
    if as_json:
        _print_json(answer)
        return
    from model.terminal import show_notes, show_table, span, when

    behind = "unknown: its log is replayed, or has ended" if answer.behind_s is None else span(answer.behind_s)
    show_table(
        ("made before", "behind event time", "now"), [(span(answer.snapshot.age_s), behind, when(answer.now_ms))]
    )
    show_notes(_origin(answer.snapshot))


def _answerer_alone(settings: ModelCliSettings) -> "Answerer":
    """Return the answerer for questions that are about no user."""
    from model.serving.answerer import open_answerer
    from model.serving.sequences import NoSequences

    return open_answerer(snapshots_directory(settings), settings.serve.alias, NoSequences())


def _print_json(answer: "BaseModel") -> None:
    print(answer.model_dump_json(indent=2))


@contextmanager
def _answerer(
    ctx: typer.Context, settings: ModelCliSettings, as_of: str | None = None
) -> Iterator[tuple["Answerer", int | None]]:
    """Yield an answerer and the time of its questions, None for now."""
    from model.query.as_of import Earlier, snapshot_as_of
    from model.serving.answerer import open_answerer
    from stream.example import event_time

    context: ModelCliContext = ctx.obj
    directory = snapshots_directory(settings)
    with closing(context.sequences(settings)) as sequences:
        if as_of is None:
            yield open_answerer(directory, settings.serve.alias, sequences), None
            return
        ts_ms = event_time(as_of)
        yield open_answerer(directory, snapshot_as_of(directory, ts_ms).name, Earlier(sequences, ts_ms)), ts_ms


def _print_topk(answer: "TopK", as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json(indent=2))
        return
    from model.terminal import show_notes, show_table

    rows = [(place, item.item_id, item.title, item.score) for place, item in enumerate(answer.items, 1)]
    show_table(("", "item", "title", "score"), rows, f"Top {len(rows)} for {answer.user or 'the sequence'}")
    few = answer.missing and f"Fewer than were asked for: {answer.missing}."
    show_notes(answer.reason and f"By popularity: {answer.reason}.", *_unknown(answer), few, _origin(answer.snapshot))


def _unknown(answer: "TopK") -> Iterator[str]:
    """Yield sentences on the items of a sequence that have no row."""
    for way, words in _READ_AS.items():
        if ids := [text for text in answer.unknown if answer.read_as.get(text) == way]:
            yield f"{words}: {_named(ids)}."


def _named(ids: list[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _print_ranking(answer: "Ranking", as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json(indent=2))
        return
    from model.terminal import show_notes, show_table

    actions = list(next((item.probabilities for item in answer.items if item.probabilities), {}))
    rows = [
        (
            *(place, item.item_id, item.title, item.score),
            *((item.probabilities or {}).get(action) for action in actions),
            "withdrawn" if item.withdrawn else "" if item.known else "left the vocabulary" if item.left else "unknown",
        )
        for place, item in enumerate(answer.items, 1)
    ]
    show_table(("", "item", "title", "score", *actions, "note"), rows, f"Ranked for {answer.user}")
    reason = answer.reason and f"{'By popularity: ' if answer.source == 'popularity' else ''}{answer.reason}."
    show_notes(reason, f"Ordered by {answer.ordered_by.replace('_', ' ')}.", _origin(answer.snapshot))


def _print_explanation(answer: "Explanation") -> None:
    from model.terminal import show_notes, show_table, when

    counts = dict.fromkeys(name for item in answer.items for name, value in item.counts.items() if abs(value) >= _LEAST)
    rows = [
        (item.item_id, item.title, item.score, item.encoder, *(item.counts[name] for name in counts))
        for item in answer.items
    ]
    show_table(("item", "title", "score", "encoder", *counts), rows, f"Why, for {answer.user}")
    events = [
        (
            when(event.ts_ms),
            event.title or event.id,
            event.action or event.kind,
            *(item.changes[at] for item in answer.items),
        )
        for at, event in enumerate(answer.events)
    ]
    if events:
        columns = ("event", "item", "what", *(item.item_id for item in answer.items))
        show_table(columns, events, "What each score would lose without the event")
    unscored = [f"{item} ({why})" for item, why in answer.unscored.items()]
    none = f"Without a score: {_named(unscored)}." if unscored else None
    show_notes(answer.reason and f"By popularity: {answer.reason}.", none, _origin(answer.snapshot))


def _origin(snapshot: "SnapshotInfo") -> str:
    from model.terminal import span, when

    alias = f" ({snapshot.alias})" if snapshot.alias else ""
    return (
        f"Snapshot {snapshot.id} of {snapshot.name}{alias}, {span(snapshot.age_s)} old, "
        f"had learned up to {when(snapshot.watermark_ms)}."
    )
