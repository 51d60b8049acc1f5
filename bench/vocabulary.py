"""Look-ups of the vocabulary's table beside other ways, and what its growth costs.

python bench/vocabulary.py. Beside it stand a Python dict, a sorted search and, where it is installed (pip install
--no-deps torchrec==1.8.* fbgemm-gpu-cpu==1.8.*, and what these import), TorchRec's MCHManagedCollisionModule; where it
is not, a line says that its rows are left out. Batches of 100,000 keys are looked up among --ids live ones: keys that
are there, keys that are not, and nine of ten. Then the table grows from nothing by 1,000 keys a call, and the dearest
calls are printed: none may wait for a whole table to move. Keys are random, as xxh3 of ids is. CPU time, one core, ways
in turns.
"""

import argparse
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import clock_s, machine, save, spread, table

from model.keys.key_table import KeyTable

BATCH, STEP = 100_000, 1_000
INSTALL = "pip install --no-deps torchrec==1.8.* fbgemm-gpu-cpu==1.8.*, and what these import"

Lookup = Callable[[np.ndarray], np.ndarray]


def ways(keys: np.ndarray) -> dict[str, Lookup]:
    """Return each way to find rows."""
    ours, rows = KeyTable(), np.arange(len(keys))
    ours.add(keys, rows)
    by_key = dict(zip(keys.tolist(), rows.tolist(), strict=True))
    order = np.argsort(keys)
    ascending = keys[order]

    def sorted_search(asked: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(ascending, asked), len(keys) - 1)
        return np.where(ascending[at] == asked, order[at], -1)

    found: dict[str, Lookup] = {
        "open addressing (ours)": ours.rows,
        "dict": lambda asked: np.fromiter(map(by_key.get, asked.tolist(), repeat(-1)), np.int64, len(asked)),
        "sorted search": sorted_search,
    }
    return found | mch(keys)


def mch(keys: np.ndarray) -> dict[str, Lookup]:
    """Return TorchRec's way if it can be imported; it numbers rows otherwise, so only -1 can be compared."""
    try:
        from torchrec.modules.mc_modules import LFU_EvictionPolicy, MCHManagedCollisionModule
        from torchrec.sparse.jagged_tensor import JaggedTensor
    except (ImportError, OSError) as error:
        print(f"TorchRec MCH is left out, since it cannot be imported ({error}): {INSTALL}")
        return {}

    def jagged(asked: np.ndarray) -> Any:
        values = torch.from_numpy((asked >> np.uint64(1)).astype(np.int64))
        return {"items": JaggedTensor(values=values, lengths=torch.ones(len(values), dtype=torch.long))}

    module = MCHManagedCollisionModule(
        zch_size=len(keys) + 1,
        device=torch.device("cpu"),
        eviction_policy=LFU_EvictionPolicy(),
        eviction_interval=1,
        input_hash_size=2**63 - 1,
    )
    module.profile(jagged(keys))

    def rows(asked: np.ndarray) -> np.ndarray:
        found: np.ndarray = module.remap(jagged(asked))["items"].values().numpy()
        return np.where(found < len(keys), found, -1)

    return {"TorchRec MCH": rows}


def lookups(ids: int, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the ms of a batch by way and kind; all ways must find the same rows."""
    rng = np.random.default_rng(0)
    every = np.unique(rng.integers(1, 2**64, size=2 * ids + ids // 8, dtype=np.uint64))[: 2 * ids]
    rng.shuffle(every)
    there, absent = np.split(every, 2)
    found = ways(there)
    asked = {"known": rng.choice(there, BATCH), "unknown": rng.choice(absent, BATCH)}
    asked["nine of ten known"] = np.where(rng.random(BATCH) < 0.9, asked["known"], asked["unknown"])
    ms: dict[str, dict[str, list[float]]] = {way: {kind: [] for kind in asked} for way in found}
    for kind, keys in asked.items():
        rows = [lookup(keys) for lookup in found.values()]
        assert all(np.array_equal(rows[0], other) for other in rows[:3])
        assert all(np.array_equal(rows[0] < 0, other < 0) for other in rows)
        for _ in range(repeats):
            for way, lookup in found.items():
                start = clock_s()
                lookup(keys)
                ms[way][kind].append(1000 * (clock_s() - start))
    return {way: {kind: spread(each) for kind, each in kinds.items()} for way, kinds in ms.items()}


def growth(ids: int) -> dict[str, float]:
    """Return the ms of calls that add STEP keys each, from an empty table to `ids`, and the bytes of a key at last."""
    keys = np.random.default_rng(1).integers(1, 2**64, size=ids, dtype=np.uint64)
    found, ms = KeyTable(), []
    KeyTable(4).add(keys[:10], np.arange(10))  # compiles what growth needs
    for start in range(0, ids, STEP):
        begin = clock_s()
        found.add(keys[start : start + STEP], np.arange(start, start + STEP))
        ms.append(1000 * (clock_s() - begin))
    parts = {f"p{q}": float(np.percentile(ms, q)) for q in (50, 99)}
    return {"mean": float(np.mean(ms)), **parts, "max": max(ms), "bytes a key": found.nbytes / len(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found, grown = lookups(given.ids, given.repeats), growth(given.ids)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}")
    print(f"{BATCH:,} keys looked up among {given.ids:,}")
    ours = found["open addressing (ours)"]
    rows: list[tuple[Any, ...]] = [
        (kind, way, *ms.values(), ms["median"] / ours[kind]["median"])
        for kind in ours
        for way, ms in ((way, kinds[kind]) for way, kinds in found.items())
    ]
    table(("keys", "", "ms min", "median", "max", "of ours"), rows)
    print(f"{STEP:,} keys added a call, from 0 to {given.ids:,}")
    table((*(f"ms {name}" for name in list(grown)[:-1]), "bytes a key"), [tuple(grown.values())])
    save("vocabulary", {"ids": given.ids, "batch": BATCH, "lookups_ms": found, "growth_ms": grown}, given.save)


if __name__ == "__main__":
    main()
