"""The constants of AdamW, as for the dense parameters (dense_adamw.py) so for the table rows (embedding_table.py).

There is no weight decay: what is left of AdamW is Adam.
"""

from typing import Final

BETAS: Final = (0.9, 0.98)  # decay of the first and of the second moment in one step
EPS: Final = 1e-8  # added to the root of the second moment
