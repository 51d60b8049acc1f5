import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import torch
from ablation import Variant, layer_of
from model.config import ModelSettings
from model.network.encoders import hstu

settings = ModelSettings(dim=16, layers=2, max_len=16)
encoder = hstu.Encoder(settings, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
x, offsets, ts_ms = torch.randn(9, 16).double(), torch.tensor([0, 5, 9]), torch.arange(9) * 60_000
before = encoder(x, offsets, ts_ms)
hstu.Layer.forward = layer_of(Variant("silu"))
assert torch.equal(encoder(x, offsets, ts_ms), before)
hstu.Layer.forward = layer_of(Variant("silu", eps=None), variances := [])
assert not torch.allclose(encoder(x, offsets, ts_ms), before)
assert [len(each) for each in variances] == [9, 9]
assert callable(hstu.use_compiled) and callable(hstu.use_fused)
"""


def test_the_variants_of_the_ablation_reach_the_layer() -> None:
    """A variant that changes nothing gives HSTU's output, another one does not, and the switches it sets exist."""
    command = [sys.executable, "-c", CODE]
    path = {"PYTHONPATH": f"{ROOT / 'bench'}:{ROOT}"}
    done = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
