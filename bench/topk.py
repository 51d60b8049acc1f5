"""Exact top-k over a million items, beside the time to read their vectors once and beside other exact methods.

python bench/topk.py. The floor is the table's bytes over the memory bandwidth of this run: the fastest of several ways
to read the table and do nothing else. Other methods: PyTorch's topk of all scores, a sort of all scores, and
faiss-cpu's flat index if it is installed (pip install faiss-cpu), which excludes no items here. They take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import clock_s, machine, save, spread, table
from torch import Tensor

from model.network.retrieval_loss import unit
from model.serving.top_k import best, rounded


def reads(items_VD: Tensor) -> dict[str, Callable[[], Any]]:
    """Return ways to read the whole table."""
    flat = items_VD.view(-1)
    return {"amax": flat.amax, "sum": flat.sum, "dot": lambda: torch.dot(flat, flat), "numpy max": flat.numpy().max}


def ways(items_VD: Tensor, query_D: Tensor, k: int, shut: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return ways to find the best k; `shut` has the sorted rows to exclude."""

    def scored() -> Tensor:
        scores_V = items_VD @ query_D
        scores_V[torch.from_numpy(shut)] = -torch.inf
        return scores_V

    coarse = rounded(items_VD)
    found: dict[str, Callable[[], Any]] = {
        "ours": lambda: best(items_VD, query_D, k, shut, coarse=coarse)[1],
        "ours without bytes": lambda: best(items_VD, query_D, k, shut)[1],
        "products alone": lambda: items_VD @ query_D,
        "torch.topk": lambda: scored().topk(k).indices,
        "sort": lambda: scored().sort(descending=True).indices[:k],
    }
    if find_spec("faiss") is None:
        return found
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(items_VD.shape[1])
    index.add(items_VD.numpy())
    row_1D = query_D[None].numpy()
    return found | {"faiss flat": lambda: index.search(row_1D, k)}


def in_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the ms of each function, run once a round."""
    ms: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = clock_s()
            run()
            ms[name].append(1000 * (clock_s() - start))
            if not number:
                ms[name].clear()
    return ms


def measure(items_VD: Tensor, k: int, shut: np.ndarray, repeats: int) -> dict[str, Any]:
    """Return the floor and the ms of every method for one k; ours must find the same items as the sort."""
    query_D = unit(torch.randn(items_VD.shape[1], generator=torch.Generator().manual_seed(k)))
    runs = ways(items_VD, query_D, k, shut)
    assert runs["ours"]().tolist() == runs["sort"]().tolist()
    ms = in_turns({**{f"read: {name}": run for name, run in reads(items_VD).items()}, **runs}, repeats)
    floor_ms = min(statistics.median(each) for name, each in ms.items() if name.startswith("read: "))
    return {"k": k, "shut": len(shut), "floor_ms": floor_ms, "ms": {name: spread(each) for name, each in ms.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    generator = torch.Generator().manual_seed(0)
    items_VD = unit(torch.randn(given.items, given.dim, generator=generator))
    shut = np.sort(np.random.default_rng(0).choice(given.items, 500, replace=False))
    results = [measure(items_VD, k, shut, given.repeats) for k in (10, 100, 1000)]
    gigabytes = items_VD.numel() * 4 / 1e9
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}")
    print(f"{given.items:,} items of {given.dim} float32, {gigabytes:.3f} GB; {len(shut)} shut out (not for faiss)")
    rows = []
    for result in results:
        floor_ms = result["floor_ms"]
        rows.append((f"floor, {gigabytes / floor_ms * 1000:.1f} GB/s", result["k"], "", floor_ms, "", 1.0))
        for name, ms in result["ms"].items():
            if not name.startswith("read: "):
                rows.append((name, result["k"], *ms.values(), ms["median"] / floor_ms))
    if find_spec("faiss") is None:
        print("faiss-cpu is not installed, so its flat index is left out: pip install faiss-cpu")
    table(("", "k", "ms min", "median", "max", "of floor"), rows)
    save("topk", {"items": given.items, "dim": given.dim, "results": results}, given.save)


if __name__ == "__main__":
    main()
