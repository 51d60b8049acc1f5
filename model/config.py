"""Settings of the model, its learner and its server: tables [model], [train] and [serve] of hstu.toml."""

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Activation = Literal["silu", "silu_seen", "softmax"]  # of model/attention/activations.py
EncoderName = Literal[  # files of model/network/encoders, then of the packages in model/network/rankers.py
    "hstu",
    "transformer",
    "gru",
    "bert4rec",
    "s3rec",
    "din",
    "dien",
    "dsin",
    "bst",
    "mimn",
    "sim_soft",
    "sim_hard",
    "eta",
    "sdim",
    "twin",
    "mmoe",
    "senet",
    "ppnet",
    "ncf",
    "dlrm",
]
Evict = Literal["recent", "frequent", "both"]
LEAST_ITEMS: Final = 32
AccessLogFormat = Literal["off", "text", "json"]
ATTENTION_NAMES: Final[tuple[str, ...]] = get_args(Activation)
ENCODER_NAMES: Final[tuple[str, ...]] = get_args(EncoderName)


class ModelSettings(BaseModel):
    """The shape of one recommender: table [model]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    encoder: EncoderName = "hstu"
    """HSTU, or a baseline, on which `attention` and `bias` have no effect: an encoder, such as SASRec's Transformer
    (transformer), GRU4Rec (gru), bert4rec or s3rec, or a model that ranks only, such as din (docs/systems.md)."""
    attention: Activation = "silu"
    """SiLU(QKᵀ+rab)/n as in the paper: n is max_len (silu) or the number of keys that the row sees (silu_seen); or a
    causally masked softmax of it, scaled by 1/sqrt(d_qk) (softmax)."""
    bias: Literal["none", "bucketed", "functional"] = "bucketed"
    """Relative bias of position and time: the paper's buckets of the time gap, a decaying function of it, or none."""
    dim: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    max_len: int = Field(512, ge=16)
    """The most tokens of a sequence; at least stream.example_tokens."""
    temperature: float = Field(0.2, gt=0)
    """Of the retrieval softmax over cosine similarities; the research code has 0.05 (see docs/performance.md)."""
    recency_decays: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.0, 0.5, 0.8, 0.95)
    """Scales of recency-weighted means of the last items, which are added to the encoder's output; () for none."""
    item_rows: int = Field(0, ge=0)
    """Rows of the item table, which items share by the hash of their id; 0: each item has its own row. Sharing bounds
    the memory, but items in one row cannot be told apart."""
    item_features: tuple[str, ...] = ("*",)
    """Features of the catalogue whose learnt rows are added to an item's own, and by whose values clicks are counted;
    "*" for all, () for none."""
    rank_actions: tuple[str, ...] = ("click", "like", "share", "purchase", "watch")
    """Actions that have a ranking tower."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "ModelSettings":
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _only_hstu_has_its_options(self) -> "ModelSettings":
        for name, allowed in (("attention", ("silu",)), ("bias", ("bucketed", "none"))):
            value = getattr(self, name)
            if self.encoder != "hstu" and value not in allowed:
                raise ValueError(f"{name} {value} is of encoder hstu; leave it out with encoder {self.encoder}")
        return self


class MayChange:
    """Marks a setting that moves no bit of a run, so that a trainer may go on from a checkpoint with another value."""


class TrainSettings(BaseModel):
    """How the learner tests and trains: table [train].

    A setting decides the bits of a run, and a checkpoint is refused where it differs, unless it is marked MayChange.
    A new setting's default keeps the old behaviour: a checkpoint that lacks the setting is taken to have the default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    name: Annotated[str, MayChange] = Field("silu", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the trainer: of its consumer group, its folder of checkpoints and its folder of snapshots."""
    device: Annotated[Literal["auto", "cpu", "cuda"], MayChange] = "auto"
    """Where the model is trained; what `auto` stands for on this machine must stay the same during a run."""
    threads: int = Field(1, ge=1)
    """Threads of PyTorch on the CPU; they take part in deciding the bits of a run."""
    seed: int = 0
    batch_examples: int = Field(8, ge=1)
    """Examples of one micro-batch: tested first, then trained on."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of all weights but the embeddings of items, actions and attribute values."""
    embedding_rate_ratio: float = Field(10.0, gt=0)
    """Learning rate of these embeddings, in multiples of `learning_rate`: rows are touched by few steps each."""
    negatives: int = Field(2048, ge=1)
    """Negatives drawn for each micro-batch; all live items where there are no more."""
    negatives_uniform: float = Field(0.5, gt=0, le=1)
    """Share of these that are drawn uniformly over live items; the others are drawn by their decayed popularity."""
    negatives_power: float = Field(1.0, ge=0, le=2)
    """Power of the popularity by which they are drawn, such as word2vec's 0.75."""
    noise_odds: float = Field(1.0, ge=0)
    """Odds that a target is noise, any live item as likely as another. The retrieval loss is that of this mixture, so
    that targets which cannot be foreseen move weights little; 0: the plain softmax."""
    replay_every: int = Field(1, ge=0)
    """Micro-batches from one step on examples of the past to the next; 0 trains on each example once."""
    replay_examples: int = Field(4, ge=1)
    """Examples of such a step, drawn from the newest `replay_mib` of all that were trained on."""
    replay_input_dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout of the embedded tokens in such a step."""
    replay_output_dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout of the encoder's output in such a step."""
    replay_mib: float = Field(64.0, gt=0)
    """Bytes of past examples in memory and in each checkpoint, in MiB; an example of 64 tokens has about 3 KiB."""
    fuse_counts: bool = True
    """Whether the score of an item is the encoder's logit fused with counts (popularity, what goes together, …), by
    weights that are learnt online; false: the encoder alone, for comparisons of encoders."""
    admit_after: int = Field(1, ge=1, le=255)
    """Occurrence as a target at which an item gets a row; 1: its first token in any history admits it."""
    item_ttl_d: float = Field(0.0, ge=0, le=100_000)
    """Days of event time after its last event in which an item leaves the vocabulary; 0: never. Its row and its counts
    are reset for another item."""
    max_items: int = Field(0, ge=0, le=10**12)
    """Most items in the vocabulary, at least 32; 0: any number. Up to one in 16 rows is kept free for new items. A run
    may go on with another cap that its items fit into (docs/design.md)."""
    evict: Evict = "recent"
    """Which items leave first where there would be more: those seen longest ago (recent), those seen least often
    (frequent), or by both, a count halving in each week in which the item is not seen (both)."""
    unknown_items: Literal["frozen", "stand_in", "dropped"] = "frozen"
    """Items of histories that have no row: a trained row stands in for them, that of their first value in the catalogue
    that has one, else one that such items share (stand_in); or the same, but the newest 262,144 that died have the
    vector that they had then (frozen); or they are left out (dropped)."""
    stand_ins: int = Field(1, ge=1)
    """Such shared rows, among which items are distributed by the hash of their ids."""
    rank_weight: float = Field(1.0, ge=0)
    """Weight of the ranking loss beside the retrieval loss."""
    stochastic_length_alpha: float = Field(0.0, ge=0, le=2)
    """Train on max_len^(alpha/2) tokens of longer sequences, most of the time; above 1, at most 2; 0: on all of them.
    Tests see all tokens, at the price of a second forward pass (docs/performance/stochastic-length.md)."""
    negative_actions: tuple[str, ...] = ("dislike", "hide", "skip", "report")
    """Actions that do not make a shown or organic item a positive of retrieval; every other action does."""
    test_share: Annotated[float, MayChange] = Field(0.0, ge=0, le=1)
    """Share of the retrieval targets that are tested, drawn by a hash of their place in the log, the same for all
    trainers; 0: all up to 65,536 items, and half of them for every doubling beyond, so that a test costs the same."""
    drift_boost: float = Field(1.0, ge=1, le=100)
    """Learning rates after a drift alarm of `loss`, in multiples of the usual ones; 1: as ever (docs/drift.md)."""
    drift_boost_steps: int = Field(500, ge=1)
    """Micro-batches that are learned at such rates."""
    drift_snapshot: Annotated[bool, MayChange] = False
    """Whether a drift alarm makes a snapshot due at once."""
    drift_hold_targets: Annotated[int, MayChange] = Field(0, ge=0)
    """Most targets after a drift alarm for which the gate (`promote`) moves no alias, unless the model recovers before;
    0: it judges as ever."""
    exclude_seen: bool = False
    """Whether tests leave out the items of the history that an example brings; a target among them is a miss."""
    popularity_half_life_d: float = Field(7.0, ge=1e-5, le=1e6)
    """Half-life, in days of event time, of the popularity that is drawn from and compared with."""
    window_targets: int = Field(10_000, ge=1)
    """Targets in the window of the windowed metrics."""
    checkpoint_s: Annotated[float, MayChange] = Field(30.0, gt=0)
    """Wall time between checkpoints."""
    snapshot_s: Annotated[float, MayChange] = Field(30.0, gt=0)
    """Wall time between snapshots."""
    delta_s: Annotated[float, MayChange] = Field(0.0, ge=0)
    """Wall time between deltas, which carry what changed to servers between snapshots; 0: none are written."""
    delta_threshold: Annotated[float, MayChange] = Field(0.0, ge=0, lt=1)
    """Share of a row's largest number by which one of its numbers must have moved for the row to be in a delta; 0: rows
    are exact (docs/performance/delta.md)."""
    keep_snapshots: Annotated[int, MayChange] = Field(20, ge=1)
    """Newest snapshots that are kept, besides those that an alias names or that are pinned."""
    promote: Annotated[str, MayChange] = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    """Alias, such as champion, that moves to each new snapshot unless the model has become worse; empty: none."""
    metrics_port: Annotated[int, MayChange] = Field(0, ge=0, le=65535)
    """Port of the trainer's Prometheus metrics; 0 means any free one, which is logged."""
    metrics_host: Annotated[str, MayChange] = "127.0.0.1"
    """Address that they are served on; 0.0.0.0 for everybody who can reach this machine."""
    metrics_file: Annotated[str, MayChange] = ""
    """JSONL file to which the metrics are appended; empty means metrics.jsonl in the trainer's folder."""

    @field_validator("max_items")
    @classmethod
    def _items_leave_room(cls, most: int) -> int:
        if 0 < most < LEAST_ITEMS:
            raise ValueError(f"max_items {most} is too small; take {LEAST_ITEMS} or more, or 0 for any number")
        return most

    @classmethod
    def may_change(cls) -> frozenset[str]:
        """Return the names of the settings that may change between two sessions of one run."""
        return frozenset(name for name, field in cls.model_fields.items() if MayChange in field.metadata)

    @field_validator("stochastic_length_alpha")
    @classmethod
    def _alpha_shortens(cls, alpha: float) -> float:
        if 0 < alpha <= 1:
            raise ValueError(f"stochastic_length_alpha {alpha} is not above 1; 1.6 to 2 are usual, 0 turns it off")
        return alpha


class ServeSettings(BaseModel):
    """Where queries are answered, and who may ask: table [serve]."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    host: str = "127.0.0.1"
    """Address to listen on; any that other machines can reach needs a token."""
    port: int = Field(8000, ge=0, le=65535)
    """0 means any free one, which is logged."""
    name: str = Field("silu", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """The trainer whose snapshots are served."""
    alias: str = "latest"
    poll_s: float = Field(1.0, gt=0)
    """Seconds between two looks at the alias."""
    token: SecretStr = SecretStr("")
    """Token that clients send as `Authorization: Bearer TOKEN`, at least 16 characters; empty: none is needed."""
    token_file: str = ""
    """File that holds the token, in place of `token`."""
    hosts: tuple[str, ...] = ()
    """Names under which clients reach this server (header Host), such as a proxy's; on loopback localhost and its
    addresses are always among them. "*" allows any; elsewhere than on loopback an empty list does, too."""
    cors_origins: tuple[str, ...] = ()
    """Origins such as https://shop.example whose pages may read answers in a browser; "*" for all."""
    user_state_mib: float = Field(128.0, ge=0)
    """Most memory for users' states, in MiB: keys and values of their histories, kept from one question to the next; 0:
    none are kept."""
    watch: tuple[str, ...] = ()
    """HOST:PORT of the metrics of workers and trainers, for the dashboard; a name may stand for several hosts."""
    access_log: AccessLogFormat = "off"
    """Whether each request is logged on standard output, and how."""
    connections: int = Field(512, ge=8)
    """Most connections at a time; beyond it, the one that has waited longest for its request is closed."""
    timeout_s: float = Field(10.0, gt=0)
    """Seconds that a request may take to arrive, and that its answer may wait for the client; then it is cut off."""
