"""What was found, as values, as plain Python for JSON, and in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..compat import o3
from ..o3 import PointGroup, representation
from ..symmetry.words import meaning, operation_name

if TYPE_CHECKING:
    from ase import Atoms

    from ..models import RelaxedDistortion
    from .diagnosis import ResidualGroup
    from .fit import Fit
    from .mapping import Mapping
    from .parent import Parent

SCHEMA = 1


def strict_bound(parent: Parent, target: np.ndarray, model: RelaxedDistortion) -> float:
    """Return the least loss of a network that keeps the parent's symmetry, for a distortion ``[3 N + 9]`` in Å."""
    displacement, strain = parent.split(target - parent.symmetric_part(target))
    return float(((displacement / model.displacement_scale) ** 2).sum() + ((strain / model.strain_scale) ** 2).sum())


@dataclass(frozen=True, eq=False)
class OrderParameter:
    """One irrep of the parent that theta needs, with what it does, as far as the residual group allows it.

    Args:
        kpoint (str): Point of the Brillouin zone, ``"GM"`` for the zone centre.
        irrep (str): The irrep of O(3) of lowest degree that carries it, e.g. ``"1o"``; ``"2e"`` if it is mostly strain.
        label (str): Its Mulliken symbol in the parent's point group, e.g. ``"T1u"``.
        direction (ndarray): Unit vector ``[2 l + 1]`` of ``irrep`` in the parent's axes; Cartesian for l = 1.
        direction_spread (float): Largest angle to it over the seeds, degrees.
        amplitudes (list[float]): For each seed the displacement of this irrep that is lost with it switched off, the
            root of the sum of squares over the parent's primitive cell, Å.
        strains (list[float]): For each seed the strain of this irrep that is lost likewise, Frobenius norm.
        sources (list[str]): Irreps of theta whose part in it survived.
        num_seeds (int): In how many seeds operations of the parent change its effect by ``symprec`` or more.
        words (str): What it is physically, e.g. ``"polar vector along [001]"``.
        refit_loss (float): Loss of a network that keeps the isotropy subgroup of this irrep's effect.
        primary (bool): Whether it belongs to the least set that still explains the child, found greedily.
    """

    kpoint: str
    irrep: str
    label: str
    direction: np.ndarray
    direction_spread: float
    amplitudes: list[float]
    strains: list[float]
    sources: list[str]
    num_seeds: int
    words: str
    refit_loss: float
    primary: bool

    @property
    def amplitude(self) -> float:
        """Mean of :attr:`amplitudes`, Å."""
        return float(np.mean(self.amplitudes))

    @property
    def strain(self) -> float:
        """Mean of :attr:`strains`."""
        return float(np.mean(self.strains))

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values."""
        return {
            "kpoint": self.kpoint,
            "irrep": self.irrep,
            "label": self.label,
            "direction": [round(float(x), 6) + 0.0 for x in self.direction],
            "direction_spread_degrees": self.direction_spread,
            "words": self.words,
            "amplitude_angstrom": self.amplitude,
            "amplitudes_angstrom": self.amplitudes,
            "strain": self.strain,
            "strains": self.strains,
            "theta_irreps": self.sources,
            "found_in_seeds": self.num_seeds,
            "refit_loss": self.refit_loss,
            "primary": self.primary,
        }


@dataclass(frozen=True, eq=False)
class Discovery:
    """The findings of :func:`discover`.

    Args:
        parent (Parent): The parent with its symmetry.
        mapping (Mapping): The child on its parent, turned to the canonical domain.
        domain_operation (ndarray): The operation ``[3, 3]`` of the parent that turned it.
        child (Atoms): The child as it was given.
        child_point_group (PointGroup): The child's own, from spglib, in the parent's axes, canonical domain.
        child_space_group (str): From spglib.
        residual (ResidualGroup): The residual group of the best network, with the gap of its test.
        residual_groups (list[PointGroup]): That of each seed.
        order_parameters (list[OrderParameter]): Primary ones first; empty if no symmetry is broken.
        seeds (list[int]): The seeds.
        fits (list[Fit]): The relaxed network of each seed.
        best (int): The seed, by its place, with the lowest loss.
        effects (list[dict[str, float]]): For each theta of the best network the change of its output, Å, with an irrep
            switched off.
        strict (Fit): The strict network.
        symprec (float): What counts as a difference, Å.
    """

    parent: Parent
    mapping: Mapping
    domain_operation: np.ndarray
    child: Atoms
    child_point_group: PointGroup
    child_space_group: str
    residual: ResidualGroup
    residual_groups: list[PointGroup]
    order_parameters: list[OrderParameter]
    seeds: list[int]
    fits: list[Fit]
    best: int
    effects: list[dict[str, float]]
    strict: Fit
    symprec: float

    @property
    def residual_group(self) -> PointGroup:
        """The operations of the parent that the network leaves intact."""
        return self.residual.group

    @property
    def model(self) -> torch.nn.Module:
        """The relaxed network with the lowest loss."""
        return self.fits[self.best].model

    @property
    def relaxed_loss(self) -> float:
        """Its loss."""
        return self.fits[self.best].loss

    @property
    def strict_loss(self) -> float:
        """Loss of the strict network."""
        return self.strict.loss

    @property
    def n_domains(self) -> int:
        """Number of symmetry-equivalent children."""
        return len(self.parent.group) // len(self.residual_group)

    @property
    def is_broken(self) -> bool:
        """Whether any symmetry of the parent is broken."""
        return self.n_domains > 1

    @property
    def agrees(self) -> bool:
        """Whether the residual group is the child's own point group, operation by operation."""
        group = self.residual_group
        return len(group) == len(self.child_point_group) and group.is_subgroup_of(self.child_point_group, tol=0.02)

    @property
    def primary(self) -> list[OrderParameter]:
        """The primary order parameters."""
        return [parameter for parameter in self.order_parameters if parameter.primary]

    @cached_property
    def strict_bound(self) -> float:
        """The least loss that any network can have that keeps the parent's symmetry."""
        target = self.parent.vector(self.mapping.displacement, self.mapping.strain)
        return strict_bound(self.parent, target, self.fits[self.best].model)

    @cached_property
    def deviation(self) -> float:
        """Largest difference between the best network's distortion and the child's, Å."""
        target = self.parent.vector(self.mapping.displacement, self.mapping.strain)
        return self.parent.change(self.parent.vector(*self.fits[self.best].output()) - target)

    @cached_property
    def domains(self) -> list[np.ndarray]:
        """One operation ``[3, 3]`` of the parent for each domain; it turns the canonical one into it."""
        representatives: list[np.ndarray] = []
        for R in self.parent.group.operations:
            if not any(self.residual_group.contains(other.T @ R) for other in representatives):
                representatives.append(R)
        return representatives

    @cached_property
    def child_domain(self) -> int:
        """Which of :attr:`domains` the child itself is."""
        back = self.domain_operation.T
        return next(k for k, R in enumerate(self.domains) if self.residual_group.contains(R.T @ back))

    def domain_words(self) -> list[str]:
        """Return the meaning of the first primary order parameter in each domain."""
        if not self.primary:
            return []
        first = self.primary[0]
        D = representation(first.irrep, np.array(self.domains)).numpy()
        ir = o3.Irrep(first.irrep)
        return [meaning(ir, D_g @ first.direction, self.parent.axes) for D_g in D]

    def distorted(self) -> Atoms:
        """Return the child in the parent's axes, in the canonical domain."""
        atoms = self.parent.atoms.copy()
        stretch = np.eye(3) + self.mapping.strain
        atoms.set_cell(atoms.cell.array @ stretch)
        atoms.positions = atoms.positions @ stretch + self.mapping.displacement
        return atoms

    def headline(self) -> str:
        """Return the main finding in one line, e.g. ``"m-3m to 4mm: polar vector along [001], one of 6 domains"``."""
        group = self.parent.group.hermann_mauguin
        if self.deviation > self.symprec:
            return f"no finding: the network reproduces the child only to {self.deviation:.3f} Å"
        if not self.is_broken:
            return f"{group}: no symmetry is broken"
        words = " and ".join(parameter.words for parameter in self.primary) or "no order parameter above symprec"
        return f"{group} to {self.residual_group.hermann_mauguin}: {words}, one of {self.n_domains} domains"

    def sentences(self) -> list[str]:
        """Return the findings in words, one sentence each."""
        group, axes = self.parent.group, self.parent.axes
        angle = np.degrees(np.arccos(np.clip((np.trace(self._alignment) - 1) / 2, -1, 1)))
        said = [*self.warnings(), f"Parent {self.parent.space_group}, child {self.child_space_group}."]
        if angle >= 0.01:
            said.append(f"The child's axes were turned by {angle:.2f}° onto the parent's (polar decomposition).")
        operation = operation_name(self.domain_operation, axes)
        if not self.is_broken:
            said.append(f"No symmetry is broken: all {len(group)} operations of {group.hermann_mauguin} are kept.")
        else:
            if operation != "identity":
                said.append(
                    f"The child is domain {self.child_domain + 1} of those below. It was turned to the canonical one, "
                    f"of which all else speaks, by an operation of the parent: {operation}."
                )
            said.append(
                f"Residual group {self.residual_group.hermann_mauguin} within {group.hermann_mauguin}: kept operations "
                f"change the distortion by at most {self.residual.kept:.4f} Å, broken ones by at least "
                f"{self.residual.broken:.4f} Å (symprec {self.symprec} Å)."
            )
            for parameter in self.order_parameters:
                said.append(
                    f"{'Primary' if parameter.primary else 'Secondary'}: {parameter.label} ({parameter.irrep}), "
                    f"{parameter.words}; without it {parameter.amplitude:.4f} Å and a strain of "
                    f"{parameter.strain:.4f} are lost."
                )
            said.append(f"{self.n_domains} domains: {self._domain_list()}.")
            said.append(
                f"The strict network cannot fit (loss {self.strict_loss:.3g}, relaxed {self.relaxed_loss:.2g}): its "
                f"output keeps every symmetry of the parent, so the best it can do is the mean over the domains, loss "
                f"{self.strict_bound:.3g}."
            )
        said.append(
            f"The child's own point group is {self.child_point_group.hermann_mauguin}: "
            + ("the same." if self.agrees else f"NOT the residual group {self.residual_group.hermann_mauguin}.")
        )
        return said

    def warnings(self) -> list[str]:
        """Return what makes the findings doubtful."""
        doubts = []
        if self.deviation > self.symprec:
            doubts.append(
                f"Warning: the network reproduces the child only to {self.deviation:.3f} Å, more than symprec, so that "
                f"what follows is no finding: train longer (steps), or give theta more irreps."
            )
        symbols = [group.hermann_mauguin for group in self.residual_groups]
        first = self.residual_group
        if any(len(group) != len(first) or not group.is_subgroup_of(first) for group in self.residual_groups):
            doubts.append(f"Warning: the seeds disagree about the residual group: {', '.join(symbols)}.")
        if self.is_broken and not self.primary:
            doubts.append(
                f"Warning: what breaks the symmetry is hardly larger than symprec={self.symprec} Å: lower it."
            )
        for parameter in self.order_parameters:
            if parameter.num_seeds < len(self.seeds) or parameter.direction_spread > 1:
                doubts.append(
                    f"Warning: the seeds disagree about {parameter.label}: found in {parameter.num_seeds} of "
                    f"{len(self.seeds)}, directions up to {parameter.direction_spread:.1f}° apart."
                )
        return doubts

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain Python values, the content of ``report.json``."""
        return {
            "schema": SCHEMA,
            "sentences": self.sentences(),
            "parent": {"space_group": self.parent.space_group, "point_group": self.parent.group.to_dict()},
            "child": {"space_group": self.child_space_group, "point_group": self.child_point_group.to_dict()},
            "residual_group": self.residual_group.to_dict(),
            "residual_gap_angstrom": {
                "kept": self.residual.kept,
                "broken": self.residual.broken if self.is_broken else None,
            },
            "residual_groups_of_seeds": [group.hermann_mauguin for group in self.residual_groups],
            "agrees_with_child": self.agrees,
            "n_domains": self.n_domains,
            "child_domain": self.child_domain,
            "domains": [
                {
                    "operation": np.round(R, 12).tolist(),
                    "operation_name": operation_name(R, self.parent.axes),
                    "words": words,
                }
                for R, words in zip(self.domains, self.domain_words() or [""] * self.n_domains, strict=True)
            ],
            "order_parameters": [parameter.to_dict() for parameter in self.order_parameters],
            "theta_effects_angstrom": self.effects,
            "strict_loss": self.strict_loss,
            "strict_bound": self.strict_bound,
            "relaxed_loss": self.relaxed_loss,
            "relaxed_losses": [fit.loss for fit in self.fits],
            "deviation_angstrom": self.deviation,
            "seeds": self.seeds,
            "symprec_angstrom": self.symprec,
            "frame": {
                "axes": "the parent's",
                "rotation_to_child": self.mapping.rotation.tolist(),
                "domain_operation": np.round(self.domain_operation, 12).tolist(),
                "domain_operation_name": operation_name(self.domain_operation, self.parent.axes),
            },
            "distortion": {
                "numbers": self.mapping.parent.numbers.tolist(),
                "cell_angstrom": self.mapping.parent.cell.array.tolist(),
                "positions_angstrom": self.mapping.parent.positions.tolist(),
                "displacement_angstrom": self.mapping.displacement.tolist(),
                "strain": self.mapping.strain.tolist(),
            },
        }

    @property
    def _alignment(self) -> np.ndarray:
        # The rotation of the polar decomposition alone, without the turn to the canonical domain.
        return self.mapping.rotation @ self.domain_operation

    def _domain_list(self) -> str:
        words = self.domain_words() or [""] * self.n_domains
        if len(set(words)) < len(words):  # what words cannot tell apart, operations can
            names = [operation_name(R, self.parent.axes) for R in self.domains]
            return "; ".join(f"{word} ({name})".strip() for word, name in zip(words, names, strict=True))
        if all(word.count(" along ") == 1 for word in words):
            # "polar vector along [001]" once, then the directions alone.
            return ", ".join([words[0], *(word.rpartition(" along ")[2] for word in words[1:])])
        return "; ".join(words)
