"""What a file says of the potential in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..compat import e3nn
from ..io import UNITS
from ..models import RelaxedPotential
from ..surgery import thetas


def describe(model: RelaxedPotential, fields: Mapping[str, Sequence[float]] | None = None) -> dict[str, Any]:
    """Return what is to be known of a potential, as plain values.

    Args:
        model: The potential.
        fields: Values of its fields that are part of the file.

    Example:
        >>> header = describe(RelaxedPotential(["H", "O"], cutoff=4.0, irreps_theta="0e+1o", num_layers=1))
        >>> header["species"], header["cutoff"], header["theta"]
        ([1, 8], 4.0, {'network.layers.0.conv.theta': {'0e': 1.0, '1o': 0.0}})
    """
    from .. import __version__

    return {
        "class": type(model).__name__,
        "species": model.species.tolist(),
        "cutoff": model.cutoff,
        "reach": model.cutoff * model.network.config["num_layers"],
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "units": UNITS,
        "fields": {name: str(irreps) for name, irreps in model.fields.items()},
        "given_fields": {name: torch.as_tensor(values).flatten().tolist() for name, values in (fields or {}).items()},
        "learned_fields": {name: learned().tolist() for name, learned in model.learned.items()},
        "theta": {name: theta.norms() for name, theta in thetas(model).items()},
        "config": model.config,
        "versions": {"pyg_relaxed": __version__, "torch": torch.__version__, "e3nn": e3nn.__version__},
    }
