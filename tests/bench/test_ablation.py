import importlib
from pathlib import Path

import pytest
import torch

from model.config import ModelSettings
from model.network.encoders import hstu

BENCH = Path(__file__).parents[2] / "bench"


def test_the_variants_of_the_ablation_reach_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant that changes nothing gives HSTU's output, another one does not, and the switches it sets exist."""
    monkeypatch.syspath_prepend(str(BENCH))
    ablation = importlib.import_module("ablation")
    settings = ModelSettings(dim=16, layers=2, max_len=16)
    encoder = hstu.Encoder(settings, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, offsets, ts_ms = torch.randn(9, 16).double(), torch.tensor([0, 5, 9]), torch.arange(9) * 60_000
    before = encoder(x, offsets, ts_ms)
    monkeypatch.setattr(hstu.Layer, "forward", ablation.layer_of(ablation.Variant("silu")))
    assert torch.equal(encoder(x, offsets, ts_ms), before)
    variances: list[torch.Tensor] = []
    monkeypatch.setattr(hstu.Layer, "forward", ablation.layer_of(ablation.Variant("silu", eps=None), variances))
    assert not torch.allclose(encoder(x, offsets, ts_ms), before)
    assert [len(each) for each in variances] == [9, 9]
    assert callable(hstu.use_compiled)
    assert callable(hstu.use_fused)
