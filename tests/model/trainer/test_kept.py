"""What a run keeps that ends while a checkpoint is written beside its training."""

import errno
import os
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from model.errors import ModelError
from model.storage import checkpoint
from model.storage.background import POSSIBLE
from tests.runs import run, start

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="forks beside threads are for Linux")


def test_a_disk_that_is_full_beside_the_training_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sentence that the writer would have given; what was learned is kept, should there be room at the end."""
    training = start(tmp_path, beside=True, checkpoint_s=1.0, clock=count(0.0, 10.0).__next__)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("model.storage.checkpoint.write_arrays", full)
        with pytest.raises(ModelError, match=r"No checkpoint could be written.*No space left on device"):
            run(training, after_step=lambda step: training._wait() is not None)
    learned = training.learner.counts["steps"]
    training.close()
    again = start(tmp_path)
    assert again.learner.counts["steps"] == learned > 0
    again.close()


def test_a_run_that_is_stopped_while_a_checkpoint_is_written_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was learned since it began; the supervisor's SIGTERM reaches the writer as well."""
    training, writes, itself = start(tmp_path, beside=True), checkpoint._write_part, os.getpid()
    run(training, after_step=lambda step: step == 3)

    def slowly(*arguments: Any) -> None:
        time.sleep(0.3 if os.getpid() != itself else 0)
        writes(*arguments)

    monkeypatch.setattr(checkpoint, "_write_part", slowly)
    training._checkpoints.schedule.hurry()
    training._write_what_is_due()
    time.sleep(0.1)
    os.kill(training._beside._child, signal.SIGTERM)
    training.close()
    again = start(tmp_path)
    assert again.learner.counts["steps"] == 3
    assert [path.name for path in (tmp_path / "train" / "silu").glob("cut-*")] == ["cut-00000001"]
    again.close()
