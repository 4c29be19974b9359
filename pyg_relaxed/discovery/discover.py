"""The main job: parent and child in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..adapters import as_atoms
from ..checks import check_positive
from ..compat import o3
from ..o3 import PointGroup, projector
from ..symmetry.crystals import symmetry_dataset
from ..symmetry.words import meaning, strain_components
from .diagnosis import carriers, effect, group_kept, irrep_effects, kept_operations, residual_group
from .findings import Discovery, OrderParameter, strict_bound
from .fit import Fit, fit_distortion
from .mapping import Mapping, map_child, primitive
from .parent import Parent

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from pymatgen.core import Structure

    from ..symmetry import PointGroupIrrep
    from ..typing import ThetaLike

REACHED = 0.01  # of what no strict network can explain: what a refit may leave unexplained
STRAIN = o3.Irrep("2e")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: a graph this small gains nothing from more, and loses where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def discover(
    parent: Atoms | Structure | str | Path,
    child: Atoms | Structure | str | Path,
    *,
    seed: int = 0,
    num_seeds: int = 3,
    symprec: float = 0.01,
    irreps_theta: ThetaLike = 3,
    steps: int = 300,
    penalty: float = 1e-2,
    cutoff: float = 5.0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Discovery:
    """Find out which symmetry of the parent the child breaks, along which axis, by how much.

    A small relaxed network learns to distort the parent into the child, beside a strict one with the same budget. Its
    theta, under a group penalty, keeps the irreps it needs; what they do is read from the network's outputs.

    Args:
        parent (Atoms, Structure or path): The crystal of high symmetry.
        child (Atoms, Structure or path): The distorted crystal, in any setting, axes, origin and order of atoms.
        seed (int, optional): The first seed of the weights. (default: :obj:`0`)
        num_seeds (int, optional): Number of seeds, over which the spread is taken. (default: :obj:`3`)
        symprec (float, optional): What counts as a difference, Å. (default: :obj:`0.01`)
        irreps_theta (o3.Irreps, str or int, optional): Irreps of theta. (default: :obj:`3`, all up to l = 3)
        steps (int, optional): Steps of each training. (default: :obj:`300`)
        penalty (float, optional): Group lasso on theta. (default: :obj:`1e-2`)
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        progress (callable, optional): Called with the stage, the steps done and the steps of the stage.

    Raises:
        ValueError: If the child cannot be mapped on the parent, is more symmetric than it, or is noisier than
            ``symprec``.

    Example::

        >>> from pyg_relaxed import structures
        >>> parent = structures.load("BaTiO3_Pm-3m")
        >>> result = discover(parent, parent, num_seeds=1, steps=2)
        >>> result.residual_group.hermann_mauguin, result.n_domains
        ('m-3m', 1)
    """
    if num_seeds < 1 or steps < 1:
        raise ValueError(f"'num_seeds' and 'steps' must be at least 1 (got {num_seeds} and {steps})")
    check_positive("symprec", symprec)
    child = as_atoms(child)
    exact = Parent.from_atoms(primitive(as_atoms(parent), symprec), symprec).atoms
    found = map_child(exact, child, symprec)
    symmetry = Parent.from_atoms(found.parent, symprec)
    mapping, operation = symmetry.canonical(found)
    child_group, child_space_group = _child_symmetry(child, mapping, symprec)
    if len(child_group) > len(symmetry.group):
        raise ValueError(
            f"the child ({child_space_group}) is more symmetric than the parent ({symmetry.space_group}): "
            f"did you swap them, or is the parent noisier than symprec={symprec} Å?"
        )
    # What cannot be judged afterwards is said before the training.
    target = symmetry.vector(mapping.displacement, mapping.strain)
    kept_operations(symmetry.group.operations, symmetry.changes(target), symprec)

    def train(stage: str, **options: Any) -> Fit:
        options = {"steps": steps, "penalty": penalty, "cutoff": cutoff, "irreps_theta": irreps_theta, **options}
        done, total = 0, options["steps"] + bool(options.get("polish"))

        def on_step() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(stage, done, total)

        return fit_distortion(mapping, on_step=on_step, **options)

    def refit(labels: list[str]) -> float:
        # Without penalty and polished, so that it fails for want of symmetry and not of training.
        # The network may break what these effects break, along their directions and no further.
        effects = sum((moved[label][best] for label in labels), np.zeros_like(target))
        group = group_kept(symmetry.group.operations, symmetry.changes(effects), symprec)
        stage, subspace = f"{' and '.join(labels)} alone", partial(projector, group)
        options = {"steps": 100, "polish": 50, "penalty": 0.0, "seed": seeds[best], "subspace": subspace}
        return train(stage, **options).loss

    seeds = list(range(seed, seed + num_seeds))
    strict = train("strict network", strict=True, seed=seed)
    fits = [train(f"relaxed network, seed {s}", seed=s) for s in seeds]
    residuals = [residual_group(fit, symmetry, symprec) for fit in fits]
    best = int(np.argmin([fit.loss for fit in fits]))
    residual = residuals[best]

    order_parameters: list[OrderParameter] = []
    moved: dict[str, list[np.ndarray]] = {}
    for irrep in symmetry.irreps:
        # The network multiplies irreps: what is lost with this one is in part others, which it alone cannot break.
        own = irrep.projector(symmetry.representation)
        # What the residual group forbids is noise below symprec.
        effects = [
            symmetry.symmetric_part(own @ effect(fit, symmetry, irrep), other.group)
            for fit, other in zip(fits, residuals, strict=True)
        ]
        # As for the group: what counts is the change of the distortion under the parent's operations.
        if irrep.is_trivial or max(symmetry.changes(vector).max() for vector in effects) < symprec:
            continue
        moved[irrep.label] = effects
        loss = refit([irrep.label])
        order_parameters.append(_order_parameter(symmetry, irrep, fits, effects, symprec, loss))
    order_parameters.sort(key=lambda parameter: parameter.refit_loss)
    # The least set that explains the child, found greedily: the best irrep alone, else with the next best ones.
    primary, loss = order_parameters[:1], order_parameters[0].refit_loss if order_parameters else 0.0
    bound = strict_bound(symmetry, target, fits[best].model)
    while loss > REACHED * bound and len(primary) < len(order_parameters):
        primary = order_parameters[: len(primary) + 1]
        loss = refit([parameter.label for parameter in primary])

    return Discovery(
        parent=symmetry,
        mapping=mapping,
        domain_operation=operation,
        child=child,
        child_point_group=child_group,
        child_space_group=child_space_group,
        residual=residual,
        residual_groups=[other.group for other in residuals],
        order_parameters=[replace(parameter, primary=parameter in primary) for parameter in order_parameters],
        seeds=seeds,
        fits=fits,
        best=best,
        effects=irrep_effects(fits[best], symmetry),
        strict=strict,
        symprec=symprec,
    )


def _child_symmetry(child: Atoms, mapping: Mapping, symprec: float) -> tuple[PointGroup, str]:
    """Return the child's own point group, in the axes of the parent, and its space group."""
    # The lattice of a supercell need not have the symmetry of the crystal.
    child = primitive(child, symprec)
    dataset = symmetry_dataset(child.cell.array, child.get_scaled_positions(), child.numbers, symprec)
    columns = child.cell.array.T
    U, _, V = np.linalg.svd(columns @ dataset.rotations @ np.linalg.inv(columns))
    group = PointGroup.from_operations(mapping.rotation.T @ U @ V @ mapping.rotation)
    return group, f"{dataset.international} ({dataset.number})"


def _order_parameter(
    parent: Parent,
    irrep: PointGroupIrrep,
    fits: list[Fit],
    effects: list[np.ndarray],
    symprec: float,
    refit_loss: float,
) -> OrderParameter:
    seen = [vector for vector in effects if parent.changes(vector).max() >= symprec]
    carrier, directions = irrep.carrier, np.array([parent.direction(irrep, vector) for vector in seen])
    strains = [strain_components(parent.split(vector)[1]) for vector in seen]
    if all(2 * np.linalg.norm(parent.edge * s) > np.linalg.norm(v) for s, v in zip(strains, seen, strict=True)):
        # Mostly strain: tell it as such, even where an axial vector transforms alike.
        carrier, directions = STRAIN, np.array([strain / np.linalg.norm(strain) for strain in strains])
    cosines = np.clip(directions @ directions[0], -1, 1)
    parts = [parent.split(vector) for vector in effects]
    return OrderParameter(
        kpoint="GM",
        irrep=str(carrier),
        label=irrep.label,
        direction=directions[0],
        direction_spread=float(np.degrees(np.arccos(cosines.min()))),
        amplitudes=[float(np.linalg.norm(displacement)) for displacement, _ in parts],
        strains=[float(np.linalg.norm(strain)) for _, strain in parts],
        sources=sorted({ir for fit in fits for ir in carriers(fit, parent, irrep)}),
        num_seeds=len(seen),
        words=meaning(carrier, directions[0], parent.axes),
        refit_loss=refit_loss,
        primary=False,
    )
