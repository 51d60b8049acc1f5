"""Tables [stream] (topics, joiner, store and workers) and [kafka] (how to connect) of hstu.toml.

In the environment they are HSTU_STREAM__* and HSTU_KAFKA__*.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from stream.schema.record_time import TimeBounds


class KafkaSettings(BaseModel):
    """How clients connect to Kafka, by the names that Kafka's own clients use.

    In the environment `sasl.username` is HSTU_KAFKA__SASL_USERNAME. A secret is given by its key or by a file that
    holds it, as Docker and Kubernetes mount them; nothing prints it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        alias_generator=lambda name: name.replace("_", "."),
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """SASL authenticates, SSL encrypts (TLS)."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """How the user authenticates; needed with SASL. The SCRAM mechanisms never send the password."""
    sasl_username: str = ""
    """The user's name; needed with SASL."""
    sasl_password: SecretStr = SecretStr("")
    """The user's password; rather by HSTU_KAFKA__SASL_PASSWORD or a file than here."""
    sasl_password_file: str = ""
    """File that holds the password."""
    ssl_ca_location: str = ""
    """PEM file, or folder of them, of the CAs that sign the brokers' certificates; empty means the system's."""
    ssl_certificate_location: str = ""
    """PEM file of this client's certificate and its chain, where the cluster wants one."""
    ssl_key_location: str = ""
    """PEM file of its private key; empty means that the certificate's file holds it."""
    ssl_key_password: SecretStr = SecretStr("")
    """Password of that key."""
    ssl_key_password_file: str = ""
    """File that holds the password of that key."""
    ssl_endpoint_identification_algorithm: Literal["https", "none"] = "https"
    """Whether a broker's certificate must name the host that was asked for (https) or may name any (none)."""

    @model_validator(mode="before")
    @classmethod
    def _by_dotted_key(cls, given: Any) -> Any:
        """Bring `"sasl.mechanism"`, `sasl.mechanism` (a table in TOML) and SASL_MECHANISM, the strongest, to one."""
        if not isinstance(given, Mapping):
            return given
        keys = {name: str(field.alias) for name, field in cls.model_fields.items()}
        ordered = sorted(leaves(given), key=lambda leaf: leaf[0] in keys)  # those of variables last
        return {keys.get(key.replace(".", "_"), key): value for key, value in ordered}

    def given(self) -> set[str]:
        """Return the dotted keys whose values are not the defaults."""
        fields = type(self).model_fields
        return {str(fields[name].alias) for name, value in self if value != fields[name].default}


def leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a table and of those in it, by their dotted keys."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


_DECIDING: Final = (
    "lateness_s",
    "future_s",
    "replays",
    "action_window_s",
    "gather_targets",
    "gather_s",
    "example_tokens",
    "history_tokens",
    "history_days",
    "max_slate",
    "open_requests",
    "user_attributes",
)


_ADDRESS: Final = re.compile(r"https?://([\w.-]+|\[[\da-fA-F:.]+\])(:(?P<port>\d{1,5}))?(/[!-~]*)?", re.ASCII)
MAX_S: Final = 1e10  # 317 years, longer than event times may lie apart


class StreamSettings(BaseModel):
    """How events become sequences and examples. Every process that shares the topics must agree on all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    partitions: int = Field(4, ge=1, le=4096)
    """Partitions of every topic; fixed once the topics exist, since a user's home is murmur2(user_id) % partitions;
    `hstu topics rescale` moves users to new topics of more."""
    topic_prefix: str = ""
    """Prefix of every topic's name, so that several systems can share a cluster."""
    replication: int = Field(1, ge=1)
    """Replicas of each partition when `hstu topics create` makes the topics."""
    lateness_s: float = Field(30.0, ge=0, le=MAX_S)
    """Disorder allowed within a topic's partition: an event further behind than this goes to dead-letters as late."""
    idle_timeout_s: float = Field(30.0, ge=0, le=MAX_S)
    """Silence of a topic (wall time) after which the worker writes heartbeats into it, so that it no longer holds the
    others back; 0 means never. A replay's topics are waited for however long it takes."""
    future_s: float = Field(300.0, ge=0, le=MAX_S)
    """An event further ahead of its record's Kafka timestamp than this goes to dead-letters; 0 means no check."""
    replays: bool = True
    """Whether records with the header hstu-replay, as hstu replay sends them, may have any time; turn it off on topics
    that strangers can write to: they are then judged as live ones."""
    action_window_s: float = Field(600.0, gt=0, le=MAX_S)
    """How long after an impression an action on it counts as its label."""
    gather_targets: int = Field(8, ge=1)
    """Number of gathered targets of one user at which they leave as an example."""
    gather_s: float = Field(60.0, ge=0, le=MAX_S)
    """Event time after which gathered targets leave as an example at the latest."""
    example_tokens: int = Field(512, ge=16, le=16_384)
    """Tokens of history in one example at most. A token takes up to 593 bytes there (25, as a target 32 more, twice 268
    for a new id's text), and topic `examples` is made for records of 16 MiB."""
    history_tokens: int = Field(8192, ge=64)
    """Tokens kept of a user at least; older blocks are dropped."""
    history_days: float = Field(0, ge=0, le=1e6)
    """Age beyond which old blocks of 64 tokens are dropped, whenever a user's new tokens begin another block; a user
    without new events keeps theirs. 0 means no limit."""
    max_slate: int = Field(200, ge=1)
    """Items in one impression; a longer slate goes to dead-letters."""
    open_requests: int = Field(1024, ge=1, le=65_536)
    """Requests of one user inside their action windows at most; further slates become tokens but no targets, and are
    counted. So a bot costs no more an event than anybody else, and trainers see a bounded part of it."""
    user_attributes: int = Field(256, ge=1, le=65_536)
    """Attributes of one user whose values are remembered, those that changed last; where an event repeats the value of
    another one, it counts as a change."""
    backup_url: str = ""
    """Where workers keep backups of the stores: a folder that all of them reach, or a URL that fsspec knows, such as
    s3://bucket/hstu. Empty means none."""
    backup_s: float = Field(600.0, gt=0, le=MAX_S)
    """Seconds between two backups of a store."""
    backup_keep: int = Field(3, ge=2)
    """Backups of each store that are kept."""
    standby: bool = False
    """Whether a worker also keeps, by their backups, the stores of all partitions that others have, so that it takes
    over what was read since alone."""
    peer_token_file: str = ""
    """File with the token by which servers ask workers on other hosts for users' tokens. Empty: servers read the stores
    of their own host alone."""
    peer_timeout_s: float = Field(1.0, gt=0, le=MAX_S)
    """Seconds that a server waits for such an answer."""
    worker_url: str = ""
    """Address of a worker's metrics port for servers on other hosts, such as http://worker-1:9100. Empty: made of
    metrics_host, or of this machine's name if that is 0.0.0.0, and the port."""
    instance_id: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,249}$")
    """This worker's name in Kafka's group (group.instance.id), by which it comes back as the same member also on
    another host. No other worker may have it: a pod of a StatefulSet has such a name. Empty: a free one is leased in
    data_dir."""
    poll_records: int = Field(5000, ge=1)
    """Records that a worker takes from Kafka at once."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of a worker's Prometheus metrics; 0 means any free one, which is logged."""
    metrics_host: str = "127.0.0.1"
    """Address that they are served on; 0.0.0.0 opens them to everybody who can reach this machine."""

    @field_validator("worker_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        found = _ADDRESS.fullmatch(url)
        if url and (found is None or int(found["port"] or 0) > 65535):
            raise ValueError("this is no address of a worker; give one such as http://worker-1:9100")
        return url

    @model_validator(mode="after")
    def _standby_by_backups(self) -> "StreamSettings":
        if self.standby and not self.backup_url:
            raise ValueError("standby follows the backups of other workers; set stream.backup_url as well")
        return self

    @property
    def deciding(self) -> dict[str, bool | int | float]:
        """What decides, besides the log, which examples a store makes."""
        return {name: getattr(self, name) for name in _DECIDING}

    @property
    def time_bounds(self) -> TimeBounds:
        """How far records may move event time."""
        return TimeBounds(int(self.future_s * 1000), self.replays)
