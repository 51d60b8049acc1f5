"""Settings: the order of file, environment and flags, and the sentences about mistakes."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from sim.config import Settings, load
from sim.errors import SimError


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hstu.toml"
    path.write_text(text)
    return path


def test_file_then_environment_then_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each overrules the one before it, key by key; what nobody names keeps its default."""
    path = file(tmp_path, 'bootstrap = "file:1"\n[train]\nname = "file"\nseed = 1\nthreads = 2\n')
    monkeypatch.setenv("HSTU_BOOTSTRAP", "variable:1")
    monkeypatch.setenv("HSTU_TRAIN__SEED", "7")
    monkeypatch.setenv("HSTU_TRAIN__NAME", "variable")
    settings = load(path, {"train.name": "flag", "bootstrap": None, "data_dir": Path("there")})
    assert (settings.bootstrap, settings.data_dir) == ("variable:1", Path("there"))
    assert (settings.train.name, settings.train.seed, settings.train.threads) == ("flag", 7, 2)
    assert settings.train.negatives == load(file(tmp_path, "")).train.negatives


@pytest.mark.parametrize(
    ("text", "flags", "sentence"),
    [
        (
            "bootstap = 'x'",
            {},
            r"sets bootstap, which is no setting; bootstrap is the nearest; the top level knows bootstrap, ",
        ),
        ("[stream]\nlatness_s = 1", {}, r"sets stream.latness_s.*table \[stream\] knows .*lateness_s"),
        ("[stream]\npartitions = 0", {}, r"stream.partitions = 0 .*greater than or equal to 1"),
        ("[model]\nattention = 'relu'", {}, r"model.attention = 'relu'.*'silu', 'silu_seen' or 'softmax'"),
        ("[model]\ndim = 10\nheads = 3", {}, r"dim 10 is not a multiple of heads 3"),
        ("[model", {}, r"hstu.toml cannot be read"),
        ("", {"train.threads": 0}, r"threads = 0 .*greater than or equal to 1"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, text: str, flags: dict[str, Any], sentence: str) -> None:
    """They name key and value, and list the keys there are."""
    with pytest.raises(SimError, match=sentence):
        load(file(tmp_path, text), flags)


_FLOATS = [
    f"{table}.{key}"
    for table in ("stream", "model", "train", "serve")
    for key, field in Settings.model_fields[table].annotation.model_fields.items()
    if "float" in str(field.annotation)
]


@pytest.mark.parametrize("key", _FLOATS)
def test_numbers_are_finite(tmp_path: Path, key: str) -> None:
    """Neither inf nor nan is a length of time, a rate or a weight, in whichever table."""
    table, name = key.split(".")
    for value in ("inf", "nan"):
        text = f"[{table}]\n{name} = {f'[{value}]' if name == 'recency_decays' else value}"
        with pytest.raises(SimError, match=rf"^The setting {key}.* is refused: Input should be a finite number\.$"):
            load(file(tmp_path, text))


def test_every_number_with_a_fraction_is_tried() -> None:
    """The list above misses none that has once been let through."""
    assert {"train.item_ttl_d", "model.recency_decays", "serve.poll_s", "stream.history_days"} <= set(_FLOATS)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("HSTU_STREAM__PARTITION", "HSTU_STREAM__PARTITIONS is the nearest"),
        ("HSTU_BOOTSTRAPS", "HSTU_BOOTSTRAP is the nearest"),
        ("HSTU_TRAIN__METRIC_PORT", "HSTU_TRAIN__METRICS_PORT is the nearest"),
        ("HSTU_XYZZY", "`hstu settings` lists them"),
        ("HSTU_KAFKA_PORT", "`hstu settings` lists them"),  # HSTU_KAFKA is a table
    ],
)
def test_an_unknown_variable_is_refused(
    variable: str, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A misspelt variable would be silently without effect; the error names the nearest setting."""
    monkeypatch.setenv(variable, "3")
    with pytest.raises(SimError, match=f"sets {variable}, which is no setting; unset it or mend its name: {hint}"):
        load(file(tmp_path, ""))


def test_a_whole_table_can_be_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As JSON; single keys win over it, and a text that is no JSON is a sentence."""
    monkeypatch.setenv("HSTU_TRAIN", '{"seed": 3, "threads": 2}')
    monkeypatch.setenv("HSTU_TRAIN__SEED", "4")
    train = load(file(tmp_path, "")).train
    assert (train.seed, train.threads) == (4, 2)
    monkeypatch.setenv("HSTU_TRAIN", "fast")
    with pytest.raises(SimError, match=r'environment cannot be read: .*"train".*such as HSTU_TRAIN__NAME'):
        load(file(tmp_path, ""))


def test_an_empty_variable_of_a_list_is_the_empty_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It overrules the file: so a deployment turns the setting off."""
    monkeypatch.setenv("HSTU_SERVE__CORS_ORIGINS", "")
    assert load(file(tmp_path, '[serve]\ncors_origins = ["https://a.example"]')).serve.cors_origins == ()


@pytest.mark.parametrize("key", ["train.item_ttl_d", *(name for name in _FLOATS if name.startswith("stream."))])
def test_times_beyond_all_event_times_are_refused(key: str, tmp_path: Path) -> None:
    """In milliseconds they would be no 64-bit number."""
    with pytest.raises(SimError, match=rf"{key} = 1e\+300 .*less than or equal to"):
        load(file(tmp_path, ""), {key: 1e300})


@pytest.mark.parametrize("text", ["https://a.example", "https://a.example, https://b.example", '["https://a.example"]'])
def test_a_list_is_json_or_has_commas(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One value needs neither; numbers are numbers."""
    monkeypatch.setenv("HSTU_SERVE__CORS_ORIGINS", text)
    monkeypatch.setenv("HSTU_MODEL__RANK_ACTIONS", "click,like")
    settings = load(file(tmp_path, ""))
    assert settings.serve.cors_origins == tuple(re.findall(r"https://\w\.example", text))
    assert settings.model.rank_actions == ("click", "like")


def test_a_list_that_is_no_json_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It names the table."""
    monkeypatch.setenv("HSTU_SERVE__CORS_ORIGINS", '["https://a.example"')
    with pytest.raises(SimError, match=r'environment cannot be read: .*"serve"'):
        load(file(tmp_path, ""))


def test_a_service_alone_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Some pods get only …_PORT of a Service: its value says what it is."""
    monkeypatch.setenv("HSTU_KAFKA_PORT", "tcp://10.0.0.1:9092")
    monkeypatch.setenv("HSTU_KAFKA_PORT_9092_TCP", "tcp://10.0.0.1:9092")
    assert load(file(tmp_path, "")) == Settings()


def test_variables_of_kubernetes_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each pod gets variables for every Service of its namespace, such as one called hstu or hstu-server."""
    for service in ("HSTU", "HSTU_SERVER", "HSTU_PORT", "HSTU_A__B"):  # the last two: called hstu-port, hstu-a--b
        for suffix in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"):
            monkeypatch.setenv(f"{service}_{suffix}", "tcp://10.0.0.1:80")
    assert load(file(tmp_path, "")) == Settings()


def test_a_table_as_json_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file may have no such key."""
    monkeypatch.setenv("HSTU_KAFKA", '{"sasl.password": "hunter2", "foo": 1}')
    with pytest.raises(SimError, match=r"hstu\.toml or the variable HSTU_KAFKA sets kafka\.foo, which is no setting"):
        load(file(tmp_path, ""))


@pytest.mark.parametrize("variable", ["HSTU_SERVE_PORT", "HSTU_STREAM_METRICS_PORT", "HSTU_PORT"])
def test_a_misspelt_variable_is_not_taken_for_one_of_kubernetes(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Service's variables come with its …_SERVICE_HOST; one alone is a setting with an underscore too few."""
    monkeypatch.setenv(variable, "9000")
    with pytest.raises(SimError, match=f"sets {variable}, which is no setting"):
        load(file(tmp_path, ""))


TABLE = """
[kafka]
security.protocol = "SASL_SSL"
"sasl.mechanism" = "PLAIN"
sasl.username = "file"
sasl.password.file = "secret"
"""


def test_kafkas_dotted_keys_in_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quoted or not in the file; a variable, with an underscore for each dot, goes before the file."""
    monkeypatch.setenv("HSTU_KAFKA__SASL_USERNAME", "variable")
    monkeypatch.setenv("HSTU_KAFKA__SSL_KEY_PASSWORD", "{no JSON")
    kafka = load(file(tmp_path, TABLE)).kafka
    assert (kafka.security_protocol, kafka.sasl_mechanism, kafka.sasl_username) == ("SASL_SSL", "PLAIN", "variable")
    assert kafka.sasl_password_file == "secret"
    assert kafka.ssl_key_password.get_secret_value() == "{no JSON"


def test_a_secret_of_the_environment_goes_before_the_files_other_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text or file of a file: the environment gives either, and neither is left over from hstu.toml."""
    path = file(tmp_path, TABLE + '[serve]\ntoken = "of the file"\n')
    monkeypatch.setenv("HSTU_KAFKA__SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("HSTU_SERVE__TOKEN_FILE", "token")
    settings = load(path)
    assert (settings.kafka.sasl_password.get_secret_value(), settings.kafka.sasl_password_file) == ("hunter2", "")
    assert (settings.serve.token.get_secret_value(), settings.serve.token_file) == ("", "token")
    assert settings.kafka.sasl_username == "file"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[kafka]\nsasl.pasword = 'hunter2'", r"sets kafka.sasl.pasword, which is no setting; sasl.password is"),
        ("[kafka]\n'sasl.mechanisms' = 'PLAIN'", r"sets kafka.sasl.mechanisms, .*; sasl.mechanism is"),
        ("[kafka]\nsasl.password = 20022002", r"The setting kafka.sasl.password \(from .*should be a valid string"),
        ("kafka = 'hunter2'", r"The setting kafka \(from "),
        ("[kafka]\nsecurity.protocol = 'TLS'", r"kafka.security.protocol = 'TLS' .*'SASL_PLAINTEXT' or 'SASL_SSL'"),
    ],
)
def test_mistakes_in_kafkas_table_show_no_secret(tmp_path: Path, text: str, sentence: str) -> None:
    """They name the key as it is written, never what a secret holds."""
    with pytest.raises(SimError, match=sentence) as refused:
        load(file(tmp_path, text))
    assert "hunter2" not in str(refused.value)
    assert "20022002" not in str(refused.value)


SECRETS = [
    (table, field.alias or name)
    for table, of in Settings.model_fields.items()
    for name, field in getattr(of.annotation, "model_fields", {}).items()
    if field.annotation is SecretStr
]
REFUSED = {
    "[train]\nitem_ttl_d = 0.001": "are refused together: train.item_ttl_d 0.001 is less than stream.action_window_s",
    "[model]\ndim = 65": r"The setting model \(from .*: dim 65 is not a multiple of heads 2\.$",
    "[stream]\nstandby = true": "set stream.backup_url as well",
    "[train]\nbatch_examples = 0": "train.batch_examples = 0 ",
    "[other]\nport = 1": "sets other, which is no setting",
}


@pytest.mark.parametrize(("table", "key"), SECRETS)
def test_no_refusal_shows_a_secret(table: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is wrong, in the file or in a table given as JSON, and wherever the secret was put."""
    secret = f"{key} = 'hunter2'\n"
    texts = {f"[{table}]\n{secret}{text}": sentence for text, sentence in REFUSED.items()} | {
        f"[{table}]\n{secret}extra = 5": f"sets {table}.extra, which is no setting",
        f"[train.{table}]\n{secret}": f"sets train.{table}",
        f"[[{table}]]\n{secret}": rf"The setting {table} \(from",
        f"[bootstrap]\n{secret}": r"The setting bootstrap \(from",
        f"[serve.port]\n{secret}": r"The setting serve.port \(from",
        f"[[serve.hosts]]\n{secret}": r"The setting serve.hosts.0 \(from",
        f"[{table}]\n{key} = ['hunter2']": rf"The setting {table}.{key} \(from",
    }
    for text, sentence in texts.items():
        with pytest.raises(SimError, match=sentence) as refused:
            load(file(tmp_path, text))
        assert "hunter2" not in str(refused.value)
    for value in (
        '{"%s": "hunter2", "x": 1}',
        '{"%s": ["hunter2"]}',
        '["%s", "hunter2"]',
        '"%s=hunter2"',
        "%s hunter2",
    ):
        monkeypatch.setenv(f"HSTU_{table.upper()}", value % key)
        with pytest.raises(SimError, match=table) as refused:
            load(file(tmp_path, ""))
        assert "hunter2" not in str(refused.value)


def test_a_secrets_variable_that_is_misspelt_shows_only_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest there is."""
    monkeypatch.setenv("HSTU_KAFKA__SASL_PASWORD", "hunter2")
    with pytest.raises(SimError, match="HSTU_KAFKA__SASL_PASSWORD is the nearest") as refused:
        load(file(tmp_path, ""))
    assert "hunter2" not in str(refused.value)


def test_an_absent_file_is_an_error_only_if_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hstu.toml the defaults hold."""
    monkeypatch.chdir(tmp_path)
    assert load().stream.partitions == 4
    with pytest.raises(SimError, match=r"absent\.toml cannot be read"):
        load(tmp_path / "absent.toml")


def test_items_outlive_the_window_of_their_labels() -> None:
    """A time-to-live below the action window is refused with the least that is allowed; the window itself is enough."""
    window = {"stream.action_window_s": 43_200.0}
    assert load(None, window | {"train.item_ttl_d": 0.5}).train.item_ttl_d == 0.5
    with pytest.raises(SimError, match=r"train.item_ttl_d 0.4 is less than stream.action_window_s.*at least 0.5"):
        load(None, window | {"train.item_ttl_d": 0.4})


def test_a_cap_leaves_room() -> None:
    """One below 32 rows is refused."""
    with pytest.raises(SimError, match=r"max_items 31 is too small; take 32 or more, or 0"):
        load(None, {"train.max_items": 31})
