import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from xxhash import xxh3_128_hexdigest

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord
from model.errors import ModelError
from model.serving.popular import Popular
from model.serving.scorer import Scorer
from model.storage.aliases import LATEST, resolve
from model.storage.delta_log import State, next_state
from model.storage.patch import state_digest
from model.storage.snapshot import list_snapshots, load_snapshot
from model.trainer.checkpointer import Schedule, deciding_settings, refuse_other_settings
from stream.example import DEFAULT_BOUNDS, Heartbeat, TimeBounds, encode_heartbeat, id_key
from tests.factories import GAP_MS, START_MS, Record
from tests.runs import LOGS, MODEL, TRAIN, lines, run, start

# Every setting of [train] is here or is marked MayChange in model/config.py, so that a new one has to say which it is.
DECIDING = {
    "drift_boost",
    "drift_boost_steps",
    *("threads", "seed", "batch_examples", "learning_rate", "embedding_rate_ratio", "negatives", "noise_odds"),
    *("replay_every", "replay_examples", "replay_input_dropout", "replay_output_dropout", "replay_mib"),
    *("negatives_uniform", "negatives_power", "rank_weight", "stochastic_length_alpha"),
    *("admit_after", "item_ttl_d", "max_items", "evict", "unknown_items", "stand_ins"),
    *("negative_actions", "fuse_counts", "exclude_seen", "popularity_half_life_d", "window_targets"),
}


def changes_of(settings: BaseModel) -> Iterator[tuple[str, Any]]:
    """Yield for each setting another value that it may have."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if get_origin(field.annotation) is Literal:
            yield name, next(other for other in get_args(field.annotation) if other != value)
        elif name == "stochastic_length_alpha":
            yield name, 1.7
        elif isinstance(value, bool):
            yield name, not value
        elif isinstance(value, int | float):
            yield name, value + 1
        elif name == "recency_decays":
            yield name, (0.9,)
        else:
            yield name, "other" if isinstance(value, str) else ("other",)


def deciding(model: ModelSettings = MODEL, train: TrainSettings = TRAIN, **other: Any) -> dict[str, Any]:
    """Return the deciding settings as a checkpoint gives them back."""
    return json.loads(
        json.dumps(
            deciding_settings(model, train, **{"device": "cpu", "partitions": 3, "bounds": DEFAULT_BOUNDS, **other})
        )
    )


def test_every_setting_says_whether_it_decides_the_bits() -> None:
    """One that is neither listed above nor marked is new: decide, then list it or mark it."""
    assert TrainSettings.model_fields.keys() - TrainSettings.may_change() == DECIDING


@pytest.mark.parametrize(("name", "value"), list(changes_of(TRAIN)))
def test_only_settings_that_move_no_bit_may_change(name: str, value: Any, tmp_path: Path) -> None:
    """Each setting of [train] in turn: the listed ones are refused by name and both values, the others are not."""
    changed = deciding(train=TRAIN.model_copy(update={name: value}))
    if name in DECIDING:
        sentence = f"made with train.{name} = {deciding()[f'train.{name}']}, but now it is {changed[f'train.{name}']}"
        with pytest.raises(ModelError, match=re.escape(sentence)):
            refuse_other_settings(deciding(), changed, tmp_path)
    else:
        refuse_other_settings(deciding(), changed, tmp_path)


@pytest.mark.parametrize(("name", "value"), list(changes_of(MODEL)))
def test_the_model_keeps_all_its_settings(name: str, value: Any, tmp_path: Path) -> None:
    """Each setting of [model] shapes the weights or what they compute."""
    with pytest.raises(ModelError, match=rf"made with model\.{name} = .*, but now it is"):
        refuse_other_settings(deciding(), deciding(MODEL.model_copy(update={name: value})), tmp_path)


def test_the_device_and_the_stream_stay(tmp_path: Path) -> None:
    """`auto` may become `cpu` on a machine without a GPU, but the device may not become another."""
    for other in (
        {"device": "cuda"},
        {"partitions": 4},
        {"bounds": TimeBounds(0)},
        {"bounds": TimeBounds(replays=False)},
    ):
        with pytest.raises(ModelError, match="but now it is"):
            refuse_other_settings(deciding(), deciding(**other), tmp_path)


def test_a_checkpoint_older_than_a_setting_counts_as_its_default(tmp_path: Path) -> None:
    """A setting that a later version adds leaves older checkpoints usable, as long as it keeps its default."""
    for key in deciding().keys() - {"train.device", "stream.partitions", "stream.future_s", "stream.replays"}:
        table, name = key.split(".")
        default = getattr({"model": ModelSettings, "train": TrainSettings}[table](), name)
        model, train = MODEL, TRAIN
        if table == "model":
            model = MODEL.model_copy(update={name: default})
        else:
            train = TRAIN.model_copy(update={name: default})
        stored = deciding(model, train)
        del stored[key]
        refuse_other_settings(stored, deciding(model, train), tmp_path)
        other = dict(chain(changes_of(ModelSettings()), changes_of(TrainSettings())))[name]
        with pytest.raises(ModelError, match=rf"made with {re.escape(key)} = .*, but now it is"):
            refuse_other_settings(stored, deciding(model, train) | {key: other}, tmp_path)


def test_a_setting_that_this_version_lacks_is_refused(tmp_path: Path) -> None:
    """Nobody here knows what it did. One that is marked MayChange today may be in an old checkpoint, and is ignored."""
    with pytest.raises(ModelError, match=r"model\.depth = 3, a setting that this hstu-stream does not have"):
        refuse_other_settings(deciding() | {"model.depth": 3}, deciding(), tmp_path)
    refuse_other_settings(deciding() | {"train.metrics_host": "127.0.0.1"}, deciding(), tmp_path)


def test_a_run_is_resumed_with_other_operational_settings_only(tmp_path: Path) -> None:
    """Binding Prometheus to another address does not make a trainer refuse its own checkpoint."""
    training = start(tmp_path)
    training.checkpoint()
    training.close()
    with pytest.raises(ModelError, match=r"train\.batch_examples = 8, but now it is 4"):
        start(tmp_path, batch_examples=4)
    start(tmp_path, checkpoint_s=5.0, keep_snapshots=3, metrics_host="0.0.0.0", metrics_port=1).close()


def capped(most: int) -> dict[str, Any]:
    return deciding(train=TRAIN.model_copy(update={"max_items": most}))


def test_a_cap_may_become_another_cap(tmp_path: Path) -> None:
    """Larger or smaller; a run that began without one, or goes on without one, would not know who leaves."""
    for before, now in ((100, 200), (200, 100)):
        refuse_other_settings(capped(before), capped(now), tmp_path)
    for before, now in ((0, 100), (100, 0)):
        with pytest.raises(ModelError, match=f"train.max_items = {before}, but now it is {now}"):
            refuse_other_settings(capped(before), capped(now), tmp_path)


def on_disk(folder: Path) -> dict[str, str]:
    return {str(path): xxh3_128_hexdigest(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_cap_below_the_items_in_use_is_refused(tmp_path: Path) -> None:
    """With both numbers, and nothing changed; the least that it names will do."""
    training = run(start(tmp_path, max_items=24), after_step=lambda step: step == 5)
    used = training.learner.items.known
    training.checkpoint()
    training.close()
    before = on_disk(tmp_path)
    with pytest.raises(ModelError, match=rf"max_items = {used - 1} is less than the {used} items.*set it to {used} or"):
        start(tmp_path, max_items=used - 1)
    assert on_disk(tmp_path) == before
    start(tmp_path, max_items=used).close()


def test_a_cap_is_raised_from_a_checkpoint_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """More items stay from there on; a run that is killed before or after its next checkpoint has the same bits."""
    caplog.set_level("INFO", "hstu.train")
    training = run(start(tmp_path / "run", max_items=12), after_step=lambda step: step == 4)
    training.checkpoint()
    training.close()
    for folder in ("kept", "killed"):
        shutil.copytree(tmp_path / "run", tmp_path / folder)
    raised = run(start(tmp_path / "run", max_items=24))
    assert "train.max_items is 24 from here on; it was 12." in caplog.messages
    assert 12 < raised.learner.items.known <= 24
    assert raised.digests != run(start(tmp_path / "kept", max_items=12)).digests
    for kept in (False, True):
        killed = run(start(tmp_path / "killed", max_items=24), after_step=lambda step: step == 6)
        if kept:
            killed.checkpoint()
        killed._checkpoints.close()
    assert run(start(tmp_path / "killed", max_items=24)).digests == raised.digests


def test_two_processes_do_not_train_under_one_name(tmp_path: Path) -> None:
    """The second is refused, and may come once the first has closed."""
    training = start(tmp_path)
    with pytest.raises(ModelError, match="Another process trains as silu"):
        start(tmp_path)
    training.close()
    start(tmp_path).close()


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    """A file stands where the run's folder should be."""
    (tmp_path / "train").write_text("")
    with pytest.raises(ModelError, match=r"The folder .*silu cannot be used: .*; is it writable\?"):
        start(tmp_path)


def test_a_schedule_is_due_after_its_time_and_only_for_news() -> None:
    """The time counts from the last writing; without news nothing is due."""
    wall = [0.0]
    schedule = Schedule(10.0, lambda: wall[0])
    wall[0] = 50.0
    assert not schedule.due
    schedule.stale = True
    assert schedule.due
    schedule.done()
    schedule.stale = True
    wall[0] = 59.9
    assert not schedule.due
    wall[0] = 60.0
    assert schedule.due


def test_checkpoints_and_snapshots_follow_the_wall_clock(tmp_path: Path) -> None:
    """Each is written when its time has passed and there is news; both at the end; parents form a line."""
    wall = [1_700_000_000.0]

    def tick(step: int) -> bool:
        wall[0] += 4.0
        return False

    training = start(tmp_path, checkpoint_s=10.0, snapshot_s=20.0, now=lambda: wall[0])
    run(training, after_step=tick)
    manifests = list_snapshots(tmp_path / "snapshots" / "silu")
    assert [manifest.step for manifest in manifests] == [6, 10]
    assert [manifest.parent for manifest in manifests] == ["", manifests[0].id]
    assert len(list((tmp_path / "train" / "silu").glob("cut-*"))) == 2
    assert training.report["tokens_per_s"] > 0


@pytest.mark.parametrize("stopped", [False, True])
def test_what_was_learned_before_the_end_was_read_has_a_last_line_and_snapshot(
    tmp_path: Path, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a process that only reads the end, and where a checkpoint was due just behind the last micro-batch."""
    after_all = START_MS + 75 * GAP_MS
    logs = []
    for p, log in enumerate(LOGS):
        heartbeat, end = encode_heartbeat(Heartbeat(p, after_all, 75)), replace(log[-1], offset=len(log))
        logs.append([*log[:-1], Record(len(log) - 1, None, heartbeat), end])
    monkeypatch.setattr("tests.runs.LOGS", logs)
    settings = {"batch_examples": 25, "window_targets": 10_000, "checkpoint_s": 1e9 if stopped else 0.0}
    training = start(tmp_path, items=False, **settings)
    if stopped:
        run(training, items=False, chunk=1, after_step=lambda step: step == 3)
        assert not training.ended
        training.close()
        training = start(tmp_path, items=False, **settings)
    run(training, items=False, chunk=1).close()
    assert lines(tmp_path)[-1]["step"] == 3
    assert [manifest.step for manifest in list_snapshots(tmp_path / "snapshots" / "silu")] == [3]
    run(start(tmp_path, items=False, **settings), items=False).close()
    assert [line["step"] for line in lines(tmp_path)].count(3) == 1


def test_items_that_no_snapshot_has_are_published_at_the_next_start(tmp_path: Path) -> None:
    """They count no step; what is published already is not published again."""
    folder, wall = tmp_path / "snapshots" / "silu", [1_700_000_000.0]
    training = start(tmp_path, now=lambda: wall[0])
    run(training, after_step=lambda step: step == 3)
    training.snapshot()
    training._learn_items([ItemRecord(id_key("item 3"), "item 3", "Another", {}, START_MS)])
    training.close()
    for _ in range(2):
        training = start(tmp_path, snapshot_s=10.0, now=lambda: wall[0])
        wall[0] += 10.0
        training.step()
        training.close()
        assert [manifest.step for manifest in list_snapshots(folder)] == [3, 3]


def test_the_snapshot_holds_the_model_that_trained(tmp_path: Path) -> None:
    """`latest` names the last one; its scorer loads; digests, offsets and metrics are those of the run."""
    training = run(start(tmp_path))
    snapshot = load_snapshot(resolve(tmp_path / "snapshots" / "silu", LATEST))
    manifest, learner = snapshot.manifest, training.learner
    assert manifest.digests == training.digests
    assert manifest.offsets["examples"] == [len(log) for log in LOGS]
    assert manifest.metrics == json.loads(json.dumps(learner.metrics.as_dict()))
    assert (manifest.examples, manifest.rank_targets) == (75, learner.metrics.rank_targets)
    assert manifest.event_ms == training.report["event_ms"] < manifest.watermark_ms
    scorer = Scorer(snapshot)
    assert scorer.items.keys.tolist() == learner.items.keys.tolist()
    counts = Popular(snapshot, len(learner.items), scorer.live_V).counts_R
    assert counts.tolist() == learner.popularity.counts(int(snapshot.arrays["popularity.at_ms"])).tolist()


def test_deltas_lead_from_snapshot_to_snapshot(tmp_path: Path) -> None:
    """With births, deaths and withdrawals; a run with deltas ends with the digests of one without."""
    wall = [1_700_000_000.0]
    directory = tmp_path / "deltas" / "snapshots" / "silu"
    bounds = {"max_items": 32, "item_ttl_d": 0.005}
    state, numbers = None, []

    def tick(step: int) -> bool:
        nonlocal state
        wall[0] += 4.0
        if (directory / "aliases" / LATEST).exists():
            latest = resolve(directory, LATEST)
            state = state or State(load_snapshot(latest), latest.name)
            while (after := next_state(directory, state, latest.name)) is not None:
                state = after
                numbers.append(after.number)
        return False

    training = start(tmp_path / "deltas", snapshot_s=20.0, delta_s=4.0, now=lambda: wall[0], **bounds)
    run(training, after_step=tick)
    tick(0)
    assert numbers == [1, 2, 3, 4, 0, 1, 2, 0]
    assert state is not None
    assert state.snapshot.manifest.digests == training.digests == run(start(tmp_path / "none", **bounds)).digests
    last = load_snapshot(resolve(directory, LATEST))
    assert state.root == last.manifest.id
    assert state_digest(state.snapshot.arrays) == state_digest(last.arrays)
    assert training.report["expired"] > 0


def test_the_snapshot_says_up_to_when_it_is_trained(tmp_path: Path) -> None:
    """In the middle of a log the watermark is the time of the first example that is not trained on."""
    training = start(tmp_path, items=False)
    run(training, items=False, after_step=lambda step: step == 4)
    manifest = load_snapshot(training.snapshot()).manifest
    queues = training.inbox.merge.queues["examples"]
    waiting = [*training.inbox.batch, *(placed for queue in queues for placed in queue.waiting)]
    assert manifest.watermark_ms == min(placed.place_ms for placed in waiting) > START_MS


def test_trainer_clock(tmp_path: Path) -> None:
    """A wall clock that is set back by an hour holds up neither checkpoints nor snapshots, which follow another."""
    wall_s, clock_s = [1e9], [0.0]
    training = start(tmp_path, now=lambda: wall_s[0], clock=lambda: clock_s[0], checkpoint_s=10.0, snapshot_s=10.0)
    run(training, after_step=lambda step: step == 2)
    wall_s[0], clock_s[0] = wall_s[0] - 3600, 11.0
    run(training, after_step=lambda step: step == 3)
    assert [path.name for path in (tmp_path / "train" / "silu").glob("cut-*")] == ["cut-00000001"]
    assert len(list_snapshots(tmp_path / "snapshots" / "silu")) == 1
    training.close()
