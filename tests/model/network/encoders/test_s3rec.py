import numpy as np
import torch
from torch import Tensor

from model.config import ModelSettings
from model.data.item_features import Bags
from model.network.encoders import s3rec, transformer
from model.network.encoders.masked import Hidden
from model.network.encoders.value_loss import values_of
from tests.model.attention.attention_cases import offsets_of
from tests.model.network.encoders.test_transformer import by_hand
from tests.model.network.encoders.test_value_loss import literal

DOUBLE, DIM = torch.float64, 12


def encoder() -> s3rec.Encoder:
    generator = torch.Generator().manual_seed(3)
    settings = ModelSettings(encoder="s3rec", dim=DIM, layers=2, heads=3, max_len=16)
    made = s3rec.Encoder(settings, dtype=DOUBLE, generator=generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) * 0.3)
    return made


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def test_what_is_tested_is_sasrecs() -> None:
    """The same bits as a Transformer of the same weights, with candidates or without."""
    made, x = encoder(), random(9, DIM)
    other = transformer.Encoder(made.settings, dtype=DOUBLE, generator=torch.Generator())
    own = {name: value for name, value in made.state_dict().items() if not name.startswith("auxiliary.")}
    other.load_state_dict(own)
    for targets in (None, torch.tensor([2, 0])):
        outputs = [each(x, offsets_of([5, 4]), torch.arange(9), targets) for each in (made, other)]
        assert torch.equal(*outputs)


def test_hidden_tokens_are_read_from_both_sides() -> None:
    """Outputs and gradients are those of loops over the whole sequence, with the row of [MASK] beside what is there."""
    made, x, hidden = encoder(), random(9, DIM), torch.arange(9) % 4 == 1
    cotangent = torch.linspace(-1, 1, 9 * DIM, dtype=DOUBLE).view(9, DIM)
    parts = torch.stack([x[i] + made.auxiliary.mask if hidden[i] else x[i] for i in range(9)]).split([6, 3])
    outputs = (
        made.both_ways(x, offsets_of([6, 3]), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2]), hidden),
        torch.cat([by_hand(made, part, causal=False) for part in parts]),
    )
    assert torch.allclose(*outputs, rtol=1e-10, atol=1e-10)
    read = [*made.layers.parameters(), *made.norm.parameters(), made.auxiliary.mask]
    gradients = [torch.autograd.grad((out * cotangent).sum(), read) for out in outputs]
    for ours, naive in zip(*gradients, strict=True):
        assert torch.allclose(ours, naive, rtol=1e-9, atol=1e-9)


def test_losses_by_features_are_the_papers() -> None:
    """MAP of hidden targets' outputs, and AAP of all targets' own rows, a fifth as much: value_loss.py of each."""
    made, features, outputs, rows = encoder(), random(5, DIM, seed=1), random(2, DIM, seed=2), random(3, DIM, seed=3)
    bags = Bags(np.array([0, 1, 3, 1, 4, 2]), np.ones(6, np.float32), np.array([0, 2, 3, 3, 6]))
    of_hidden, of_rows = (values_of(bags, np.array(items), np.array([0, 1, 3])) for items in ([3, 0], [0, 2, 3]))
    found_c, found_P = made.feature_losses(Hidden(outputs, of_hidden, rows, of_rows, features))
    own = [[0, 1], [3], [], [1, 4, 2]]
    with_map, with_aap = (x @ w for x, w in ((outputs, made.auxiliary.w_map), (rows, made.auxiliary.w_aap)))
    for found, wanted in (
        (found_c, [literal(with_map[n], features, own[item], range(5)) for n, item in enumerate([3, 0])]),
        (found_P, [0.2 * literal(with_aap[n], features, own[item], range(5)) for n, item in enumerate([0, 2, 3])]),
    ):
        assert torch.allclose(found, torch.stack(wanted), rtol=1e-12, atol=1e-12)
    assert torch.equal(made.predicted(outputs), outputs @ made.auxiliary.w_mip)
