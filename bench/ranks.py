"""Tokens/s of training on 1 and 2 gloo ranks, one thread each, beside DistributedDataParallel over a dense table.

python bench/ranks.py. A MovieLens-like stream (movies.py), a live catalogue of --items, a model of --layers layers of
width --dim; no replay, no counts. DDP has the same encoder on the same examples, each rank its share of a micro-batch,
nn.Embedding(items) with dense gradients and torch's AdamW, and a softmax over negatives: what people write first. Wall
time, by rank 0; --steps micro-batches after --warm.
"""

import argparse
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from movies import START_MS, film_keys, make_movies
from report import machine, save, table
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.config import ModelSettings, TrainSettings
from model.data.micro_batch import PackedBatch, collate
from model.distributed.ranks import Ranks, join_ranks
from model.learning.learner import Learner
from model.network.recommender import Recommender
from stream.example import Example


class Dense(nn.Module):
    """The encoder over a dense table, and the loss of each target's item among negatives."""

    def __init__(self, model: ModelSettings, items: int) -> None:
        super().__init__()
        self.recommender = Recommender(model, seed=1)
        self.table = nn.Embedding(items, model.dim)

    def forward(self, batch: PackedBatch, rows_L: Tensor, negatives_K: Tensor) -> Tensor:
        """Return the mean loss of a micro-batch."""
        kinds, ts_ms, offsets = map(torch.as_tensor, (batch.kinds, batch.ts_ms, batch.offsets))
        x_LD = self.table(rows_L)
        y_LD = self.recommender.encode(x_LD, torch.zeros_like(x_LD), kinds, ts_ms, offsets)
        query_T, position_T = torch.as_tensor(batch.queries), torch.as_tensor(batch.positions)
        query_TD = self.recommender.queries(y_LD, query_T, x_LD, kinds, offsets)
        own_T1 = (query_TD * x_LD[position_T]).sum(1, keepdim=True)
        logits = torch.cat((own_T1, query_TD @ self.table(negatives_K).T), 1) / 0.2
        return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


def ours(ranks: Ranks, args: argparse.Namespace, batches: list[list[Example]]) -> float:
    """Return the tokens/s of the learner."""
    train = TrainSettings(device="cpu", replay_every=0, fuse_counts=False, negatives=args.negatives)
    learner = Learner(shape(args), train, baselines=False, ranks=ranks)
    learner.items.admit(film_keys(args.items), np.full(args.items, START_MS - 1))
    learner.weights.grow(learner.items.keys, 2)
    for batch in batches[: args.warm]:
        learner.step(batch)
    tokens, start_s = learner.counts["tokens"], time.perf_counter()
    for batch in batches[args.warm :]:
        learner.step(batch)
    return (learner.counts["tokens"] - tokens) / (time.perf_counter() - start_s)


def ddp(ranks: Ranks, args: argparse.Namespace, batches: list[list[Example]]) -> float:
    """Return the tokens/s of DistributedDataParallel, or of the module alone on one rank."""
    torch.set_num_threads(1)
    module: nn.Module = Dense(shape(args), args.items)
    if ranks.count > 1:
        module = DistributedDataParallel(module, find_unused_parameters=True)
    adamw, rng = torch.optim.AdamW(module.parameters(), lr=1e-3), np.random.default_rng(1)
    place = {key: row for row, key in enumerate(film_keys(args.items).tolist())}
    tokens, start_s = 0, time.perf_counter()
    for number, examples in enumerate(batches):
        if number == args.warm:
            tokens, start_s = 0, time.perf_counter()
        whole = collate(examples)
        batch = whole.part(*whole.shares(ranks.count)[ranks.rank])
        rows_L = torch.tensor([place.get(key, 0) for key in batch.keys.tolist()])
        module(batch, rows_L, torch.as_tensor(rng.integers(args.items, size=args.negatives))).backward()
        adamw.step()
        adamw.zero_grad()
        tokens += len(whole.keys)
    return tokens / (time.perf_counter() - start_s)


def shape(args: argparse.Namespace) -> ModelSettings:
    """Return the model's shape."""
    return ModelSettings(dim=args.dim, layers=args.layers, heads=4, rank_actions=())


def work(rank: int, args: argparse.Namespace, count: int, port: int, results: Any) -> None:
    """Measure both on one rank; rank 0 sends its figures."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    examples = make_movies(args.passed + 32 * (args.warm + args.steps), films=args.items)[args.passed :]
    batches = [examples[i : i + 32] for i in range(0, len(examples), 32)]
    with join_ranks("cpu") as ranks:
        for name, measure in (("hstu", ours), ("ddp", ddp)):
            speed = measure(ranks, args, batches)
            if not rank:
                results.put((name, speed))


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("items", 20_000), ("dim", 128), ("layers", 4), ("negatives", 512), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--warm", type=int, default=3, help="micro-batches that do not count")
    parser.add_argument("--passed", type=int, default=2400, help="examples passed over, by which histories have grown")
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    found: dict[str, float] = {}
    for count in (1, 2):
        results = mp.get_context("spawn").SimpleQueue()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(work, (args, count, port, results), count)
        for _ in range(2):
            name, speed = results.get()
            found[f"{name} {count}"] = speed
    print(machine())
    rows = [
        (name, *(f"{found[f'{key} {n}']:,.0f}" for n in (1, 2)), f"{found[f'{key} 2'] / found[f'{key} 1']:.2f}")
        for name, key in (("sharded rows", "hstu"), ("DDP, dense table", "ddp"))
    ]
    table(("tokens/s", "1 rank", "2 ranks", "ratio"), rows)
    settings = {key: value for key, value in vars(args).items() if key != "save"}
    save("ranks", {"settings": settings, "tokens_per_s": found}, args.save)


if __name__ == "__main__":
    main()
