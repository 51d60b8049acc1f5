"""Dropout of a replayed pass. What is tested, and what an example is first trained on, has none.

An element becomes 0 with the rate's probability; the others are scaled up so that the mean stays (inverted dropout).
"""

import numpy as np
import torch
from torch import Tensor


class Dropout:
    """Masks from one generator, in the order of the calls.

    Args:
        input_rate: The probability for elements of the embedded tokens.
        output_rate: The probability for elements of the encoder's output.
        rng: The generator.
    """

    def __init__(self, input_rate: float, output_rate: float, rng: np.random.Generator) -> None:
        self._input_rate, self._output_rate, self._rng = input_rate, output_rate, rng

    def input(self, x: Tensor) -> Tensor:
        """Return an embedding with elements dropped."""
        return self._dropped(x, self._input_rate)

    def output(self, y: Tensor) -> Tensor:
        """Return an encoder's output with elements dropped."""
        return self._dropped(y, self._output_rate)

    def _dropped(self, x: Tensor, rate: float) -> Tensor:
        kept = self._rng.random(tuple(x.shape), np.float32) >= rate
        return x * torch.as_tensor(kept / np.float32(1 - rate), device=x.device, dtype=x.dtype)
