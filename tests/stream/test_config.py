"""Settings of table [stream]: limits that protect what is written to disk and to Kafka."""

import pytest
from pydantic import ValidationError

from stream.config import StreamSettings


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("partitions", 1, 4096),
        ("replication", 1, None),
        ("gather_targets", 1, None),
        ("example_tokens", 16, 16_384),
        ("history_tokens", 64, None),
        ("max_slate", 1, None),
        ("poll_records", 1, None),
        ("metrics_port", 0, 65_535),
        ("lateness_s", 0, None),
        ("future_s", 0, None),
        ("gather_s", 0, None),
        ("history_days", 0, None),
        ("idle_timeout_s", 0, None),
    ],
)
def test_values_beyond_the_limits_are_refused(key: str, least: int, most: int | None) -> None:
    """The limits themselves are allowed; so is anything above where there is no most."""
    for allowed in (least, most or 10**6):
        assert getattr(StreamSettings.model_validate({key: allowed}), key) == allowed
    for wrong in [least - 1] + ([] if most is None else [most + 1]):
        with pytest.raises(ValidationError, match=key):
            StreamSettings.model_validate({key: wrong})


def test_without_a_window_no_action_could_be_a_label() -> None:
    """A window of 0 is refused, the smallest one above is not."""
    with pytest.raises(ValidationError, match="greater than 0"):
        StreamSettings(action_window_s=0)
    assert StreamSettings(action_window_s=0.001).action_window_s == 0.001


def test_the_largest_example_fits_into_a_record() -> None:
    """A token takes at most 593 bytes, a record of topic examples 16 MiB."""
    assert 593 * StreamSettings(example_tokens=16_384).example_tokens < 16 << 20


def test_settings_do_not_change_and_know_no_other_keys() -> None:
    """All processes that share the topics must agree, so a misspelt key is an error and an assignment too."""
    settings = StreamSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.partitions = 8
    with pytest.raises(ValidationError, match="latness_s"):
        StreamSettings.model_validate({"latness_s": 3})


def test_every_key_has_its_meaning() -> None:
    """`hstu settings` prints the docstring under each key."""
    meanings = {name: field.description or "" for name, field in StreamSettings.model_fields.items()}
    assert [name for name, meaning in meanings.items() if len(meaning) < 10] == []


def test_each_setting_decides_about_examples_or_does_not() -> None:
    """A new one belongs to `deciding`, which stores keep, unless it is named here."""
    others = {
        "partitions",
        "topic_prefix",
        "replication",
        "idle_timeout_s",
        "backup_url",
        "backup_s",
        "backup_keep",
        "standby",
        "peer_token_file",
        "peer_timeout_s",
        "worker_url",
        "instance_id",
        "poll_records",
        "metrics_port",
        "metrics_host",
    }
    assert set(StreamSettings().deciding) == StreamSettings.model_fields.keys() - others


def test_a_workers_address_is_checked() -> None:
    """At the start, not when the first server asks."""
    for url in ("", "http://worker-1:9100", "https://[::1]:9100", "http://10.0.0.1/hstu/worker"):
        assert StreamSettings(worker_url=url).worker_url == url
    for url in ("worker-1:9100", "//h", "file:///etc", "http://", "http://a b", "http://h:x", "http://h:99999"):
        with pytest.raises(ValidationError, match="give one such as http://worker-1:9100"):
            StreamSettings(worker_url=url)
