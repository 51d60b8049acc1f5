"""What is random in a replayed pass. What is tested, and what an example is first trained on, has nothing of it.

L = tokens of the micro-batch, D = width. Masks are drawn for all tokens, of which a rank takes those of its share.

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
        self._input_rate, self._output_rate, self.rng = input_rate, output_rate, rng

    def input(self, x_LD: Tensor, share: slice, tokens: int) -> Tensor:
        """Return an embedding with elements dropped.

        Args:
            x_LD: The embedding of a share.
            share: Which tokens of the micro-batch these are.
            tokens: L.
        """
        return self._dropped(x_LD, self._input_rate, share, tokens)

    def output(self, y_LD: Tensor, share: slice, tokens: int) -> Tensor:
        """Return an encoder's output with elements dropped; arguments as for `input`."""
        return self._dropped(y_LD, self._output_rate, share, tokens)

    def _dropped(self, x: Tensor, rate: float, share: slice, tokens: int) -> Tensor:
        kept = self.rng.random((tokens, x.shape[1]), np.float32)[share] >= rate
        return x * torch.as_tensor(kept / np.float32(1 - rate), device=x.device, dtype=x.dtype)
