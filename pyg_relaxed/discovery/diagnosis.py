"""What a trained theta says, judged by what the network does and never by theta's size."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..o3 import PointGroup, representation
from ..o3.point_groups import is_closed
from ..surgery import thetas

if TYPE_CHECKING:
    from ..compat import o3
    from ..o3 import RelaxedWeights
    from ..symmetry import PointGroupIrrep
    from .fit import Fit
    from .parent import Parent

NEGLIGIBLE = 1e-6  # of the norm of theta: rounding


@dataclass(frozen=True)
class ResidualGroup:
    """The operations of a parent group that a trained network leaves intact.

    Args:
        group (PointGroup): They.
        kept (float): Largest change of an output under a kept operation, Å.
        broken (float): Smallest change under a broken one, Å; infinite where none is broken.
    """

    group: PointGroup
    kept: float
    broken: float


def residual_group(fit: Fit, parent: Parent, symprec: float = 0.01) -> ResidualGroup:
    """Keep the operations g for which theta turned by g gives the same distortion.

    The outputs are compared, not theta: theta is defined only up to the weights it multiplies. Strain counts as the
    displacement it gives a mean cell edge.

    Args:
        fit (Fit): The trained network.
        parent (Parent): The parent.
        symprec (float, optional): Largest change of an output for an operation to be kept, Å. (default: :obj:`0.01`)

    Raises:
        ValueError: If the operations kept form no group: symprec lies within the noise of the child.
    """
    operations = parent.group.operations
    before = parent.vector(*fit.output())
    images = [(representation(t.irreps_theta, operations) @ t()).detach() for t in thetas(fit.model).values()]
    turned = (zip(*images, strict=True)) if images else ((),) * len(operations)
    change = np.array([parent.change(after - before) for after in _outputs(fit, parent, turned)])
    kept = kept_operations(operations, change, symprec)
    broken = change[~kept].min() if (~kept).any() else np.inf
    return ResidualGroup(PointGroup.from_operations(operations[kept]), float(change[kept].max()), float(broken))


def kept_operations(operations: np.ndarray, change: np.ndarray, symprec: float) -> np.ndarray:
    """Return which operations change a distortion by less than symprec, boolean ``[n]``.

    Raises:
        ValueError: If they form no group; a symprec at which they do is proposed.
    """
    kept = change < symprec
    if is_closed(operations[kept]):
        return kept
    # The geometric mean of two changes far apart, such that what lies below is a group.
    levels = np.sort(change)
    gaps = np.flatnonzero(levels[1:] > 2 * levels[:-1])
    middles = [float(np.sqrt(levels[i] * levels[i + 1])) for i in gaps if levels[i] > symprec / 100]
    possible = [middle for middle in middles if is_closed(operations[change < middle])]
    advice = (
        f"try symprec={min(possible, key=lambda x: abs(np.log(x / symprec))):.2g}" if possible else "there is no gap"
    )
    raise ValueError(
        f"the {kept.sum()} operations kept at symprec={symprec} Å form no group: they change the distortion by up to "
        f"{change[kept].max():.4f} Å, others by {change[~kept].min():.4f} Å. The child is noisier than symprec: "
        f"{advice}"
    )


def group_kept(operations: np.ndarray, change: np.ndarray, symprec: float) -> PointGroup:
    """Return the group of the operations that change an effect by less than symprec, or by less yet if it is small."""
    for level in [symprec, *sorted(change[change < symprec], reverse=True)]:
        kept = operations[change < level]
        if len(kept) and is_closed(kept):
            return PointGroup.from_operations(kept)
    return PointGroup.from_operations(np.eye(3)[None])


def carriers(fit: Fit, parent: Parent, irrep: PointGroupIrrep) -> list[str]:
    """Return the irreps of theta whose part in an irrep of the parent survived, in any layer."""
    found: dict[str, None] = {}
    for theta in thetas(fit.model).values():
        value = theta().detach()
        part = torch.as_tensor(isotypic_projector(parent, irrep, theta.irreps_theta)) @ value
        for ir, s in theta.blocks():
            if part[s].norm() > NEGLIGIBLE * value.norm():
                found[str(ir)] = None
    return list(found)


def effect(fit: Fit, parent: Parent, irrep: PointGroupIrrep) -> np.ndarray:
    """Return the part of the distortion, a vector in Å, that is lost with an irrep of the parent switched off."""
    without = []
    for theta in thetas(fit.model).values():
        value = theta().detach()
        without.append(value - torch.as_tensor(isotypic_projector(parent, irrep, theta.irreps_theta)) @ value)
    (after,) = _outputs(fit, parent, [tuple(without)])
    return parent.vector(*fit.output()) - after


def irrep_effects(fit: Fit, parent: Parent) -> list[dict[str, float]]:
    """Return, for each theta of the network, what each of its irreps does: the change without it, Å.

    That number does not depend on the gauge of theta: the scale and the sign of the weights it multiplies.
    """
    before, relaxed = parent.vector(*fit.output()), list(thetas(fit.model).values())
    values = [theta().detach() for theta in relaxed]
    effects: list[dict[str, float]] = []
    for layer, theta in enumerate(relaxed):
        without = []
        for ir in theta.irreps:
            value = values[layer].clone()
            for other, s in theta.blocks():
                if str(other) == ir:
                    value[s] = 0
            without.append((*values[:layer], value, *values[layer + 1 :]))
        changes = [parent.change(before - after) for after in _outputs(fit, parent, without)]
        effects.append(dict(zip(theta.irreps, changes, strict=True)))
    return effects


def isotypic_projector(parent: Parent, irrep: PointGroupIrrep, irreps_theta: o3.Irreps) -> np.ndarray:
    """Return the projector on the part of theta that transforms like an irrep of the parent."""
    return irrep.projector(representation(irreps_theta, parent.group.operations).numpy())


def _outputs(fit: Fit, parent: Parent, values: Iterable[tuple[torch.Tensor, ...]]) -> Iterator[np.ndarray]:
    """Return the distortion for each choice of the values of all thetas."""
    changed = copy.deepcopy(fit)
    relaxed: list[RelaxedWeights] = list(thetas(changed.model).values())
    for choice in values:
        for theta, value in zip(relaxed, choice, strict=True):
            theta.set_(value)
        yield parent.vector(*changed.output())
