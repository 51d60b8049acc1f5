from typing import Any

import pytest
import torch
from torch import Tensor

from model.attention.activations import ACTIVATIONS
from model.attention.relative_bias import BIASES
from model.config import ModelSettings
from model.network.ranking_head import loss as ranking_loss
from model.network.recommender import Recommender
from model.network.retrieval_loss import sampled_softmax, unit
from stream.example import Kind
from tests.model.attention.attention_cases import Golden, golden, offsets_of

MODELS = [{"attention": a, "bias": b} for a in sorted(ACTIVATIONS) for b in ("none", *BIASES)]
ACTION, IMPRESSION = int(Kind.ACTION), int(Kind.IMPRESSION)
START_MS = 1_700_000_000_000


def recommender(**settings: Any) -> Recommender:
    made = Recommender(ModelSettings(dim=16, max_len=32, **settings), seed=1).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)  # small numbers would hide what the tests look for
    return made


def tokens(length: int, dim: int = 16, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return content, action, kinds and times of one random sequence."""
    rng = torch.Generator().manual_seed(seed)
    content, action = (torch.randn(length, dim, generator=rng, dtype=torch.float64) * 0.1 for _ in range(2))
    kinds = torch.randint(0, 3, (length,), generator=rng).to(torch.uint8)
    return content, action, kinds, START_MS + torch.randint(0, 10**6, (length,), generator=rng).cumsum(0)


def golden_recommender(file: Golden) -> Recommender:
    """Build the reference's model: no kinds, no towers, its own weights."""
    config = file.config
    shape = {"dim": config["D"], "heads": config["H"], "layers": config["layers"], "max_len": config["N"]}
    settings = ModelSettings.model_construct(
        **shape, temperature=config["temperature"], rank_actions=(), recency_decays=()
    )
    made = Recommender(settings, seed=0).double()
    state = made.state_dict() | {"pos_emb": file["pos_emb"], "kind_emb": torch.zeros_like(made.kind_emb)}
    for i in range(config["layers"]):
        names = {"w_uvqk": "w_uvqk", "w_out": "w_o", "b_out": "b_o"}
        names |= {"bias.positions": "rab_pos_w", "bias.times": "rab_ts_w"}
        state |= {f"encoder.layers.{i}.{ours}": file[f"l{i}_{theirs}"] for ours, theirs in names.items()}
    made.load_state_dict(state)
    return made


def test_a_whole_model_gives_the_public_references_outputs_loss_and_gradients() -> None:
    """Two layers, position embeddings, sampled softmax: to 1e-10 in float64."""
    file = golden("research_full_model_loss")
    made, items, lengths = golden_recommender(file), file.leaf("item_emb"), file["lengths"].tolist()
    ids, ts, offsets = file["ids"], file["timestamps"] * 1000, file["x_offsets"]
    flat = [torch.cat([x[b, :n] for b, n in enumerate(lengths)]) for x in (ids, ts)]
    request_ms = torch.stack([ts[b, n] for b, n in enumerate(lengths)])
    kinds = torch.full_like(flat[0], ACTION)
    content = items[flat[0]]
    y = made.encode(content, torch.zeros_like(content), kinds, flat[1], offsets, request_ms=request_ms)
    queries = made.queries(y, torch.arange(len(y)), content, kinds, offsets)
    assert close(queries, torch.cat([file["out"][b, :n] for b, n in enumerate(lengths)]))

    positives = torch.cat([ids[b, 1 : n + 1] for b, n in enumerate(lengths)])
    loss = golden_loss(made, queries, items, positives, file["neg_ids"])
    assert close(loss, file["loss"])
    loss.backward()
    assert close(items.grad, file["grad_item_emb"])
    assert close(made.pos_emb.grad, file["grad_pos_emb"])
    for i, layer in enumerate(made.encoder.layers):
        assert close(layer.w_uvqk.grad, file[f"l{i}_grad_w_uvqk"])


def golden_loss(made: Recommender, queries: Tensor, items: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Return the loss, with the negatives of all targets in one row; those of other targets do not count."""
    targets, each = negatives.shape
    others = ~torch.eye(targets, dtype=torch.bool).repeat_interleave(each, 1)
    hit = others | (negatives.flatten() == positives[:, None])
    uncorrected = torch.zeros(targets * each, dtype=torch.float64)
    vectors = queries, items[positives], items[negatives.flatten()]
    return sampled_softmax(
        *vectors, log_q_K=uncorrected, hits=hit.nonzero(as_tuple=True), temperature=made.settings.temperature
    )


def close(ours: Tensor | None, theirs: Tensor, tolerance: float = 1e-10) -> bool:
    return ours is not None and torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("settings", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_ranking_in_one_pass_equals_ranking_one_by_one(
    settings: dict[str, str], dtype: torch.dtype, tolerance: float
) -> None:
    """50 candidates shown at one time after a history of 20: logits as if each came next in the stream."""
    made = Recommender(ModelSettings(dim=16, max_len=32, **settings), seed=1).to(dtype)  # type: ignore[arg-type]
    content, action, kinds, ts_ms = tokens(70)
    content, action = content.to(dtype), action.to(dtype)
    kinds[20:], ts_ms[20:], action[20:] = IMPRESSION, ts_ms[20], 0
    y = made.encode(content, action, kinds, ts_ms, offsets_of([70]), torch.tensor([50]))
    for c in range(20, 70):
        rows = [*range(20), c]
        alone = made.encode(content[rows], action[rows], kinds[rows], ts_ms[rows], offsets_of([21]))
        others = alone[:1], content[c : c + 1]
        assert close(made.rank_logits(y[c : c + 1], *others), made.rank_logits(alone[-1:], *others), tolerance)


@pytest.mark.parametrize("settings", MODELS)
def test_an_impression_does_not_know_when_the_next_token_comes(settings: dict[str, str]) -> None:
    """A reaction's time would reveal the label: an impression's output does not depend on what follows, or when."""
    made = recommender(**settings)
    content, action, kinds, ts_ms = tokens(6)
    kinds[3], kinds[4] = IMPRESSION, ACTION
    before = made.encode(content, action, kinds, ts_ms, offsets_of([6]))
    ts_ms[4:] += 10**9
    after = made.encode(content, action, kinds, ts_ms, offsets_of([6]))
    assert torch.equal(before[:4], after[:4])


def test_a_query_after_an_action_knows_the_time_of_the_request() -> None:
    """In training it is the next token's time, in a query it is given; both give the same output."""
    made = recommender()
    content, action, kinds, ts_ms = tokens(6)
    kinds[4] = ACTION
    trained = made.encode(content, action, kinds, ts_ms, offsets_of([6]))
    asked = made.encode(content[:5], action[:5], kinds[:5], ts_ms[:5], offsets_of([5]), request_ms=ts_ms[5:])
    unasked = made.encode(content[:5], action[:5], kinds[:5], ts_ms[:5], offsets_of([5]))
    assert torch.equal(trained[:5], asked)
    assert not torch.equal(asked[4], unasked[4])
    assert torch.equal(asked[:4], unasked[:4])


def test_the_input_is_the_scaled_sum_of_content_action_and_kind_at_its_place() -> None:
    """Replacing the parts of a token by their sum changes nothing; changing its place or its kind does."""
    made = recommender(bias="none")
    content, action, kinds, ts_ms = tokens(2)
    kinds[:] = ACTION
    y = made.encode(content, action, kinds, ts_ms, offsets_of([2]))
    summed = made.encode(content + action, torch.zeros_like(action), kinds, ts_ms, offsets_of([2]))
    apart = made.encode(content, action, kinds, ts_ms, offsets_of([1, 1]))
    x = (content + action + made.kind_emb[ACTION]) * 4 + made.pos_emb[:2]
    assert torch.equal(y, summed)
    assert torch.equal(y[0], apart[0])
    assert not torch.equal(y[1], apart[1])
    assert torch.equal(y, made.encoder(x, offsets_of([2]), ts_ms))


def test_queries_are_of_unit_length_and_start_without_history() -> None:
    """-1 gives the learned start vector, also in a batch without tokens; others are y and the recency means."""
    made, y, of_3 = recommender(), torch.randn(3, 16, dtype=torch.float64), offsets_of([3])
    query, (content, _, kinds, _) = torch.tensor([2, -1, 0]), tokens(3)
    recent = made.recency(content, kinds, of_3, query)  # type: ignore[misc]
    found = made.queries(y, query, content, kinds, of_3)
    assert recent[0].any()
    assert torch.equal(found, torch.stack([unit(y[2] + recent[0]), unit(made.start), unit(y[0] + recent[2])]))
    empty = made.encode(*(nothing := tokens(0)), offsets_of([0]))
    found = made.queries(empty, torch.tensor([-1]), nothing[0], nothing[2], offsets_of([0]))
    assert torch.allclose(found, unit(made.start)[None])


def test_without_recency_a_query_is_the_encoders_output() -> None:
    """No decays: no means, and no weights of theirs."""
    made, y = recommender(recency_decays=()), torch.randn(3, 16, dtype=torch.float64)
    content, _, kinds, _ = tokens(3)
    assert torch.equal(made.queries(y, torch.tensor([1]), content, kinds, offsets_of([3])), unit(y[1:2]))
    assert not [name for name in made.state_dict() if "recency" in name]


def test_the_seed_decides_every_weight() -> None:
    """Equal seeds give equal bits in float32, whatever the global generator did; another seed gives others."""
    states = []
    for seed in (5, 5, 6):
        torch.rand(2)
        states.append(Recommender(ModelSettings(), seed=seed).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["start"], states[2]["start"])
    assert {value.dtype for value in states[0].values()} == {torch.float32}


@pytest.mark.parametrize("settings", MODELS)
def test_a_step_on_both_losses_reaches_every_weight(settings: dict[str, str]) -> None:
    """Training moves all parameters, and the loss of the same batch falls."""
    made = recommender(**settings)
    content, action, kinds, ts_ms = tokens(24)
    kinds[::4] = torch.arange(6, dtype=torch.uint8) % 3
    items, labels = torch.randn(12, 16, dtype=torch.float64), torch.arange(20).reshape(4, 5) % 2
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        y = made.encode(content, action, kinds, ts_ms, offsets_of([14, 10]))
        queries = made.queries(y, torch.tensor([3, -1, 20, 13]), content, kinds, offsets_of([14, 10]))
        zeros, none = torch.zeros(8, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
        vectors = queries, items[:4], items[4:]
        retrieval = sampled_softmax(*vectors, log_q_K=zeros, hits=(none, none), temperature=made.settings.temperature)
        loss = retrieval + ranking_loss(made.rank_logits(y[[4, 5, 21, 22]], queries, items[:4]), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in made.parameters())
        optimizer.step()
    assert losses[-1] < losses[0]
