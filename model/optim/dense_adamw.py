"""The dense parameters of a learner with their optimizer: torch's AdamW, whose moments can be kept and compared.

array of state(), for each parameter of the module
<name>            its values
<name>.mean       first moment of its gradients    ) both and the count only once the
<name>.square     second moment                    ) parameter has had a gradient
<name>.steps      f32, steps of this parameter     )
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_MOMENTS: Final = {"mean": "exp_avg", "square": "exp_avg_sq", "steps": "step"}


class DenseOptimizer:
    """AdamW without weight decay over all parameters of a module; those without a gradient stay where they are."""

    def __init__(self, module: nn.Module, lr: float, betas: tuple[float, float] = (0.9, 0.98)) -> None:
        self.parameters = dict(module.named_parameters())
        self._adam = torch.optim.AdamW(self.parameters.values(), lr=lr, betas=betas, weight_decay=0.0, fused=True)

    def step(self) -> None:
        """Move the parameters against their gradients, then forget these."""
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, NDArray[Any]]:
        """Give copies of the arrays of the table above."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, parameter in self.parameters.items():
            arrays[name] = _copy(parameter)
            if known := self._adam.state.get(parameter):
                arrays |= {f"{name}.{key}": _copy(known[torch_key]) for key, torch_key in _MOMENTS.items()}
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put parameters and moments back."""
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
