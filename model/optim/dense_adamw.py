"""The optimizer of the dense parameters: torch's AdamW, with its moments as named arrays.

array of state(), for each parameter of the module
<name>            its values
<name>.mean       first moment of its gradients    ) these three only after the
<name>.square     second moment                    ) parameter has had a gradient
<name>.steps      f32, steps of this parameter     )
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.optim.adamw import BETAS, EPS

_MOMENTS: Final = {"mean": "exp_avg", "square": "exp_avg_sq", "steps": "step"}


class DenseAdamW:
    """AdamW without weight decay over all parameters of a module; those without a gradient do not move."""

    def __init__(self, module: nn.Module, lr: float) -> None:
        self.lr = lr
        self.parameters = dict(module.named_parameters())
        self._adam = torch.optim.AdamW(
            self.parameters.values(), lr=lr, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True
        )

    def step(self, ratio: float = 1.0) -> None:
        """Move the parameters against their gradients, at this multiple of the rate, then clear the gradients."""
        self._adam.param_groups[0]["lr"] = self.lr * ratio
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of the arrays of the table above."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, parameter in self.parameters.items():
            arrays[name] = _copy(parameter)
            if moments := self._adam.state.get(parameter):
                arrays |= {f"{name}.{key}": _copy(moments[torch_key]) for key, torch_key in _MOMENTS.items()}
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore parameters and moments."""
        for name, parameter in self.parameters.items():
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.array(state[name])))
            if f"{name}.steps" in state:
                moments = {key: torch.from_numpy(np.array(state[f"{name}.{key}"])) for key in _MOMENTS}
                self._adam.state[parameter] = {
                    _MOMENTS[key]: moment.to(parameter.device).clone() for key, moment in moments.items()
                }


def _copy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy().copy()
    return array
