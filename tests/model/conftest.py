from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from model.cli import add_commands
from tests.model.commands import Context, Run
from tests.served import model_arrays, write_model


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Set one thread for PyTorch, the default of the trainer: more would not speed up tiny tensors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def context() -> Context:
    """What commands get as ctx.obj."""
    return Context()


@pytest.fixture
def run(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `hstu` with the model's verbs in an empty directory; errors come out as they were raised."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    add_commands(app)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(app, arguments, obj=context)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Three snapshots under the default directory, each the parent of the next; the last one withdraws i6."""
    directory = tmp_path / "hstu-data" / "snapshots" / "silu"
    parent = ""
    for step, withdrawn, items in ((1, [], 18), (2, [], 20), (3, [6], 20)):
        arrays, metrics = model_arrays(items, withdrawn, seed=step), {"model": {"hr@10": step / 10}}
        digests = {"model": f"{step:032x}", "sequences": "5e", "examples": "e8"}
        parent = write_model(
            directory, step, arrays=arrays, parent=parent, metrics=metrics, digests=digests, targets=step
        ).name
    return directory
