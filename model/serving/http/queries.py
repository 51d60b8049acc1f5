"""Endpoints of queries: answers of the snapshot in place, computed in threads."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from anyio import CapacityLimiter
from anyio.from_thread import check_cancelled
from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

from model.serving.answerer import Answerer
from model.serving.filters import Filters
from model.serving.hot_swap import Swapper
from model.serving.http.errors import UNKNOWN, NotReadyError
from model.serving.http.questions import (
    Allowed,
    BatchQuestion,
    Diversity,
    ExplainBatchQuestion,
    ExplainedItems,
    ExplainQuestion,
    Features,
    Ids,
    Items,
    K,
    Last,
    Newest,
    Now,
    OneItem,
    RankBatchQuestion,
    RankQuestion,
    Seen,
    SimilarBatchQuestion,
    SimilarUsersQuestion,
    TopKQuestion,
    User,
)
from model.serving.responses import (
    Explanation,
    ExplanationBatch,
    Freshness,
    History,
    Ranking,
    RankingBatch,
    Similar,
    SimilarBatch,
    SimilarUsers,
    TopK,
    TopKBatch,
    check_k,
    check_pairs,
    split_ids,
)
from stream.example import id_text

_WAITING: Final = 32  # long answers that wait for the two that are computed
_COMPUTED: Final = 2  # at once, so that short ones find a thread


def answerer_of(swapper: Swapper) -> Answerer:
    """Return what answers now.

    Raises:
        NotReadyError: No snapshot is loaded yet.
    """
    answerer = swapper.answerer
    if answerer is None:
        first = "`hstu train` makes the first, and this server's log says what it waits for"
        raise NotReadyError(swapper.loading or f"No snapshot is loaded yet; {first}.")
    return answerer


class _WhileWanted(list[str]):
    """Ids of a batch; in a thread of LongAnswers, its loop ends with an error once the client has gone."""

    def __iter__(self) -> Iterator[str]:
        for text in super().__iter__():
            check_cancelled()
            yield text


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")


class LongAnswers:
    """Answers that may take many seconds: few are computed at once, and few more wait, each with its question."""

    def __init__(self) -> None:
        self._threads = CapacityLimiter(_COMPUTED)
        self._places = asyncio.Semaphore(_COMPUTED + _WAITING)

    async def answer(self, answer: Callable[[], BaseModel]) -> Response:
        """Return an answer, computed in a thread.

        Raises:
            HTTPException: 503, since too many wait already.
        """
        if self._places.locked():
            detail = f"{_WAITING} explanations and batches wait already; ask again later."
            raise HTTPException(503, detail, {"Retry-After": "5"})
        async with self._places:  # at once, as there is one
            return await run_sync(lambda: _json(answer()), limiter=self._threads)


def add_queries(app: FastAPI, swapper: Swapper, guard: list[Any]) -> None:
    """Add the endpoints; `guard` shows in /docs that they need a token."""
    long_answers = LongAnswers()
    _add_topk(app, swapper, guard, long_answers)
    _add_rank(app, swapper, guard, long_answers)
    _add_reasons(app, swapper, guard, long_answers)
    _add_similar(app, swapper, guard, long_answers)
    _add_users(app, swapper, guard)


def _add_topk(app: FastAPI, swapper: Swapper, guard: list[Any], long_answers: LongAnswers) -> None:
    @app.get("/topk", response_model=TopK, dependencies=guard)
    def topk(
        user: User,
        k: K = 10,
        include_seen: Seen = False,
        now_ms: Now = None,
        allow: Allowed = None,
        deny: Ids = "",
        feature: Features = [],  # noqa: B006  # FastAPI copies it
        diversity: Diversity = 0.0,
    ) -> Response:
        """Return the best live items for a user, by popularity where the user is unknown."""
        filters = Filters(None if allow is None else split_ids(allow), split_ids(deny), feature, diversity)
        return _json(answerer_of(swapper).topk(user, k, now_ms, include_seen=include_seen, filters=filters))

    @app.post("/topk", response_model=TopK, dependencies=guard)
    def topk_sequence(question: TopKQuestion) -> Response:
        """Return the best live items after a sequence of items."""
        sequence, options = [id_text(item) for item in question.sequence], question.options()
        return _json(answerer_of(swapper).topk_sequence(sequence, question.k, question.now_ms, **options))

    @app.post("/topk/batch", response_model=TopKBatch, dependencies=guard)
    async def topk_batch(question: BatchQuestion) -> Response:
        """Return the best live items for several users, at most 20,000 in all."""
        check_k(question.k)
        check_pairs(len(question.users), question.k)

        def answer() -> TopKBatch:
            answerer, options = answerer_of(swapper), question.options()
            users = _WhileWanted(map(id_text, question.users))
            return TopKBatch(answers=[answerer.topk(user, question.k, question.now_ms, **options) for user in users])

        return await long_answers.answer(answer)


def _add_rank(app: FastAPI, swapper: Swapper, guard: list[Any], long_answers: LongAnswers) -> None:
    @app.get("/rank", response_model=Ranking, dependencies=guard)
    def rank(user: User, items: Items, now_ms: Now = None) -> Response:
        """Return the candidates in order, each scored as if it alone were shown to the user now."""
        return _json(answerer_of(swapper).rank(user, split_ids(items), now_ms))

    @app.post("/rank", response_model=Ranking, dependencies=guard)
    def rank_any(question: RankQuestion) -> Response:
        """Return the candidates in order; for ids with commas and for long lists."""
        items = [id_text(item) for item in question.items]
        return _json(answerer_of(swapper).rank(id_text(question.user), items, question.now_ms))

    @app.post("/rank/batch", response_model=RankingBatch, dependencies=guard)
    async def rank_batch(question: RankBatchQuestion) -> Response:
        """Return the same candidates in order for several users, at most 20,000 pairs of user and candidate."""
        check_pairs(len(question.users), len(question.items))

        def answer() -> RankingBatch:
            answerer, items = answerer_of(swapper), [id_text(item) for item in question.items]
            users = _WhileWanted(map(id_text, question.users))
            return RankingBatch(answers=[answerer.rank(user, items, question.now_ms) for user in users])

        return await long_answers.answer(answer)


def _add_reasons(app: FastAPI, swapper: Swapper, guard: list[Any], long_answers: LongAnswers) -> None:
    @app.get("/explain", response_model=Explanation, dependencies=guard)
    async def explain(
        user: User, items: ExplainedItems, include_seen: Seen = False, newest: Newest = 50, now_ms: Now = None
    ) -> Response:
        """Return why items have the scores of /topk: what the counts add, and what each event of the user moves."""
        asked = split_ids(items)
        options: dict[str, Any] = {"include_seen": include_seen, "newest": newest}
        return await long_answers.answer(lambda: answerer_of(swapper).explain(user, asked, now_ms, **options))

    @app.post("/explain", response_model=Explanation, dependencies=guard)
    async def explain_any(question: ExplainQuestion) -> Response:
        """Return why items have their scores; for ids with commas."""
        items = [id_text(item) for item in question.items]
        options: dict[str, Any] = {"include_seen": question.include_seen, "newest": question.newest}
        user, now_ms = id_text(question.user), question.now_ms
        return await long_answers.answer(lambda: answerer_of(swapper).explain(user, items, now_ms, **options))

    @app.post("/explain/batch", response_model=ExplanationBatch, dependencies=guard)
    async def explain_batch(question: ExplainBatchQuestion) -> Response:
        """Return why the same items have their scores for several users."""

        def answer() -> ExplanationBatch:
            answerer, items = answerer_of(swapper), [id_text(item) for item in question.items]
            options: dict[str, Any] = {"include_seen": question.include_seen, "newest": question.newest}
            users = _WhileWanted(map(id_text, question.users))
            return ExplanationBatch(
                answers=[answerer.explain(user, items, question.now_ms, **options) for user in users]
            )

        return await long_answers.answer(answer)


def _add_similar(app: FastAPI, swapper: Swapper, guard: list[Any], long_answers: LongAnswers) -> None:
    @app.get("/similar", response_model=Similar, dependencies=guard, responses=UNKNOWN)
    def similar(item: OneItem, k: K = 10) -> Response:
        """Return the live items whose vectors are most like that of one item."""
        return _json(answerer_of(swapper).similar(item, k))

    @app.post("/similar/batch", response_model=SimilarBatch, dependencies=guard)
    async def similar_batch(question: SimilarBatchQuestion) -> Response:
        """Return what is like each of several items, at most 20,000 in all."""
        check_k(question.k)
        check_pairs(len(question.items), question.k, "items with {} like")

        def answer() -> SimilarBatch:
            answerer = answerer_of(swapper)
            return SimilarBatch.of(_WhileWanted(map(id_text, question.items)), partial(answerer.similar, k=question.k))

        return await long_answers.answer(answer)

    @app.post("/similar/users", response_model=SimilarUsers, dependencies=guard, responses=UNKNOWN)
    async def similar_users(question: SimilarUsersQuestion) -> Response:
        """Return who of up to 1,000 users the model recommends most alike to a user."""
        user, users = id_text(question.user), _WhileWanted(map(id_text, question.users))
        return await long_answers.answer(
            lambda: answerer_of(swapper).similar_users(user, users, question.k, question.now_ms)
        )


def _add_users(app: FastAPI, swapper: Swapper, guard: list[Any]) -> None:
    @app.get("/history", response_model=History, dependencies=guard)
    def history(user: User, last: Last = 50) -> Response:
        """Return the last events of a user as they are now, newest first."""
        return _json(answerer_of(swapper).history(user, last))

    @app.get("/freshness", response_model=Freshness, dependencies=guard)
    def freshness() -> Response:
        """Return how old the snapshot is, and how far what it has learned is behind event time."""
        return _json(answerer_of(swapper).freshness())
