"""What differs between the releases of our dependencies, and nothing else."""

from __future__ import annotations

import torch

# e3nn 0.4.4 unpickles a `slice` in its constants at import, which torch >= 2.6 refuses outside this context.
with torch.serialization.safe_globals([slice]):
    import e3nn
    from e3nn import nn as e3nn_nn
    from e3nn import o3

__all__ = ["e3nn", "e3nn_nn", "o3"]
