"""Comparisons by name, each with its settings."""

from dataclasses import replace
from typing import Final

from sim.compare.plan import Plan
from sim.errors import SimError

_HSTU = ("silu", "softmax")
_COUNTING = ("popularity", "last_items", "co_occurrence", "markov", "vsknn", "stack")
_SEQUENCES = ("transformer", "gru", "bert4rec", "s3rec")
_RANKING = (
    *("din", "dien", "dsin", "bst"),
    *("mimn", "sim_soft", "sim_hard", "eta", "sdim", "twin"),
    *("mmoe", "senet", "ppnet", "ncf", "dlrm"),
)
_PAPER: Final = Plan(
    scenarios=("paper",),
    contestants=(*_HSTU, "transformer"),
    changes={"records": 20_000},
    model={"bias": "none", "temperature": 0.3, "recency_decays": ()},
    train={
        "batch_examples": 8,
        "negatives": 512,
        "learning_rate": 3e-3,
        "embedding_rate_ratio": 1.0,
        "replay_every": 0,
        "noise_odds": 0.0,
        "fuse_counts": False,
    },
    stream={"example_tokens": 128},
    test_share=0.1,
)
PRESETS: Final[dict[str, tuple[str, Plan]]] = {
    "paper": (
        "The paper's synthetic setting: SiLU, softmax and a Transformer on the Dirichlet stream, without time bias.",
        _PAPER,
    ),
    "baselines": (
        "All contestants on the paper's stream, small.",
        replace(_PAPER, contestants=(*_HSTU, "transformer", "gru", *_COUNTING), changes={"records": 5_000}),
    ),
    "map": (
        "The gap between SiLU and softmax over growth, alpha, records and popularity within a category; small worlds.",
        replace(
            _PAPER,
            contestants=_HSTU,
            changes={"items": 5_000, "categories": 50},
            vary={
                "scenario.records": (2_000, 8_000),
                "scenario.initial": (0.1, 1.0),
                "scenario.alpha_high": (5.0, 500.0),
                "scenario.zipf": (0.0, 1.0),
            },
            seeds=3,
            test_share=0.2,
            frozen=False,
        ),
    ),
    "drift": (
        "Every kind of drift: SiLU, softmax and simple baselines on worlds that change.",
        Plan(
            scenarios=("growth", "turnover", "shock", "rotation", "season", "delayed", "bots", "position"),
            contestants=(*_HSTU, *_COUNTING),
            seeds=3,
            stream={"example_tokens": 64},
        ),
    ),
    "movielens": (
        "A recorded log, MovieLens-small, in one pass; rows of one instant in another order for each seed.",
        Plan(
            scenarios=("movielens",),
            contestants=(*_HSTU, "transformer", "gru", *_COUNTING),
            seeds=3,
            stream={"example_tokens": 64},
        ),
    ),
    "sequences": (
        "Retrieval by the sequence models of the literature, by HSTU and by all counts; encoders without counts.",
        Plan(
            scenarios=("movielens", "turnover"),
            contestants=(*_HSTU, *_SEQUENCES, "stack"),
            seeds=3,
            train={"fuse_counts": False, "exclude_seen": True},
            stream={"example_tokens": 64},
        ),
    ),
    "ranking": (
        "Click probabilities of slates: HSTU's towers and the ranking models of the literature, and counts alone.",
        Plan(
            scenarios=("position", "delayed", "turnover", "bots"),
            contestants=(*_HSTU, "transformer", "gru", *_RANKING, "logistic"),
            seeds=3,
            model={"rank_actions": ("click",)},
            train={"fuse_counts": False},
            stream={"example_tokens": 64},
        ),
    ),
}


def preset(name: str) -> Plan:
    """Return a plan by its name.

    Raises:
        SimError: There is no such preset.
    """
    if name not in PRESETS:
        raise SimError(f"There is no preset {name!r}; known are {', '.join(PRESETS)}.")
    return PRESETS[name][1]
