"""How the symmetry of the parent acts on a distortion of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..o3 import PointGroup, representation
from ..symmetry import PointGroupIrrep, point_group_irreps
from ..symmetry.crystals import symmetry_dataset
from ..symmetry.words import quadrupole, strain_components

if TYPE_CHECKING:
    from ase import Atoms

    from .mapping import Mapping


def symmetrised(atoms: Atoms, rotations: np.ndarray, translations: np.ndarray, permutations: np.ndarray) -> Atoms:
    """Return a nearly symmetric crystal made exactly symmetric, its axes kept.

    Args:
        atoms (Atoms): The crystal.
        rotations (ndarray): Of its operations, integer, on fractional coordinates, ``[n, 3, 3]``.
        translations (ndarray): Of its operations, fractional, ``[n, 3]``.
        permutations (ndarray): Operation ``g`` takes atom ``i`` to the place of atom ``permutations[g, i]``.
    """
    scaled = atoms.get_scaled_positions(wrap=False)
    mean = np.zeros_like(scaled)
    for W, t, images in zip(rotations, translations, permutations, strict=True):
        moved = scaled @ W.T + t
        mean[images] += scaled[images] + (moved - scaled[images] - np.round(moved - scaled[images]))
    columns = atoms.cell.array.T
    metric = np.mean([W.T @ columns.T @ columns @ W for W in rotations], axis=0)
    inverse = np.linalg.inv(columns)
    values, vectors = np.linalg.eigh(inverse.T @ metric @ inverse)  # the square of the smallest stretch that does it
    stretch = vectors * np.sqrt(values) @ vectors.T
    exact = atoms.copy()
    exact.set_cell((stretch @ columns).T)
    exact.set_scaled_positions(mean / len(rotations))
    return exact


@dataclass(frozen=True)
class Parent:
    """A crystal with its symmetry.

    A distortion is one vector: the displacements of the atoms, then the nine entries of the strain times the mean cell
    edge, all in Å. Symmetry acts on it by orthogonal matrices.

    Args:
        atoms (Atoms): The primitive cell.
        group (PointGroup): Its point group, Cartesian, in the axes of ``atoms``.
        space_group (str): Hermann-Mauguin symbol and number.
        permutations (ndarray): Operation ``g`` takes atom ``i`` to the place of atom ``permutations[g, i]``.
        axes (ndarray): Rows are the conventional lattice vectors, Å, in the axes of ``atoms``.
        standard (ndarray): The rotation ``[3, 3]`` from the axes of ``atoms`` to the standard ones.
    """

    atoms: Atoms
    group: PointGroup
    space_group: str
    permutations: np.ndarray
    axes: np.ndarray
    standard: np.ndarray

    @classmethod
    def from_atoms(cls, atoms: Atoms, symprec: float = 0.01) -> Parent:
        """Find the symmetry of a primitive cell with spglib, and give it that symmetry exactly.

        What is below the tolerance would otherwise break the symmetry of a strict network's input.

        Args:
            atoms (Atoms): The cell.
            symprec (float, optional): Tolerance, Å. (default: :obj:`0.01`)
        """
        scaled = atoms.get_scaled_positions()
        dataset = symmetry_dataset(atoms.cell.array, scaled, atoms.numbers, symprec)
        columns = atoms.cell.array.T
        permutations = []
        for W, t in zip(dataset.rotations, dataset.translations, strict=True):
            delta = (scaled @ W.T + t)[:, None] - scaled
            distance = np.linalg.norm((delta - np.round(delta)) @ columns.T, axis=2)
            permutations.append((distance + 1e6 * (atoms.numbers[:, None] != atoms.numbers)).argmin(1))
        # A measured cell is symmetric to a tolerance only; its operations are orthogonal.
        U, _, V = np.linalg.svd(columns @ dataset.rotations @ np.linalg.inv(columns))
        group = PointGroup.from_operations(U @ V)
        space_group = f"{dataset.international} ({dataset.number})"
        standard = dataset.std_rotation_matrix
        atoms = symmetrised(atoms, dataset.rotations, dataset.translations, np.array(permutations))
        return cls(atoms, group, space_group, np.array(permutations), dataset.std_lattice @ standard, standard)

    @property
    def edge(self) -> float:
        """Mean cell edge, Å."""
        return float(abs(np.linalg.det(self.atoms.cell.array)) ** (1 / 3))

    @cached_property
    def irreps(self) -> tuple[PointGroupIrrep, ...]:
        """Irreps of the point group, labelled in the standard setting; their carriers are in standard axes."""
        return point_group_irreps(self.group.conjugate(self.standard))

    @cached_property
    def representation(self) -> np.ndarray:
        """Matrices ``[n, 3 N + 9, 3 N + 9]`` by which the operations turn a distortion."""
        n, N = self.permutations.shape
        R = self.group.operations
        D = np.zeros((n, 3 * N + 9, 3 * N + 9))
        for i in range(N):
            for g, j in enumerate(self.permutations[:, i]):
                D[g, 3 * j : 3 * j + 3, 3 * i : 3 * i + 3] = R[g]
        D[:, 3 * N :, 3 * N :] = np.einsum("gij,gkl->gikjl", R, R).reshape(n, 9, 9)
        return D

    def vector(self, displacement: np.ndarray, strain: np.ndarray) -> np.ndarray:
        """Return a distortion as one vector, Å."""
        return np.concatenate([displacement.ravel(), self.edge * strain.ravel()])

    def split(self, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return displacements ``[N, 3]`` in Å and strain ``[3, 3]`` of a vector."""
        return vector[:-9].reshape(-1, 3), vector[-9:].reshape(3, 3) / self.edge

    def change(self, difference: np.ndarray) -> float:
        """Return the size of a difference of distortions: the largest move of an atom or of a mean cell edge, Å."""
        displacement, strain = self.split(difference)
        return float(max(np.linalg.norm(displacement, axis=1).max(), np.linalg.norm(strain) * self.edge))

    def changes(self, vector: np.ndarray) -> np.ndarray:
        """Return for each operation the size of the change of a distortion under it, ``[n]``, Å."""
        return np.array([self.change(image - vector) for image in self.representation @ vector])

    def symmetric_part(self, vector: np.ndarray, group: PointGroup | None = None) -> np.ndarray:
        """Return the part of a distortion that keeps a subgroup of the parent's point group.

        Without ``group`` it is the part that keeps every symmetry: all that a strict network can produce.
        """
        kept = [group is None or group.contains(R) for R in self.group.operations]
        return self.representation[kept].mean(0) @ vector

    def polar_vector(self, displacement: np.ndarray) -> np.ndarray:
        """Return the shift of electropositive against electronegative atoms, each weighted by its electronegativity.

        It serves to choose a sign and a domain; it is no polarisation.
        """
        from pymatgen.core import Element

        electronegativity = np.array([Element.from_Z(int(z)).X for z in self.atoms.numbers])
        electronegativity = np.nan_to_num(electronegativity)
        return (electronegativity.mean() - electronegativity) @ displacement

    def canonical(self, mapping: Mapping, tol: float = 1e-5) -> tuple[Mapping, np.ndarray]:
        """Turn a distortion into the canonical one among its domains.

        The canonical domain has the largest :meth:`polar_vector` along z, then y, then x; then the largest strain zz,
        yy, xx, yz, xz, xy; then the largest displacements, atom by atom.

        Returns:
            tuple: The turned mapping, and the operation ``[3, 3]`` of the parent that turns it.
        """
        images = self.representation @ self.vector(mapping.displacement, mapping.strain)
        candidates = np.arange(len(images))
        keys = []
        for image in images:
            displacement, strain = self.split(image)
            polar = self.polar_vector(displacement)[::-1]
            keys.append(
                np.concatenate([polar, strain[[2, 1, 0, 1, 0, 0], [2, 1, 0, 2, 2, 1]], displacement[:, ::-1].ravel()])
            )
        for column in np.array(keys).T:
            candidates = candidates[column[candidates] > column[candidates].max() - tol]
        R = self.group.operations
        # Of equivalent operations the simplest: proper before improper, small angles first.
        g = min(candidates, key=lambda i: (round(-np.linalg.det(R[i])), round(-np.trace(R[i]), 6), i))
        displacement, strain = self.split(images[g])
        turned = replace(mapping, displacement=displacement, strain=strain, rotation=mapping.rotation @ R[g].T)
        return turned, R[g]

    def direction(self, irrep: PointGroupIrrep, vector: np.ndarray) -> np.ndarray:
        """Return the direction of a distortion within an irrep, a unit vector of its carrier in the axes of ``atoms``.

        Several copies of the irrep count together: the direction is the one they share, or the main one. Its sign is
        that of the polar vector or the strain where they belong to the irrep, else its largest component is positive.
        """
        displacement, strain = self.split(vector)
        to_axes = representation(str(irrep.carrier), self.standard.T).numpy()
        carried = {"1o": self.polar_vector(displacement), "2e": strain_components(strain)}
        concrete = irrep.basis @ to_axes.T @ carried.get(str(irrep.carrier), np.zeros(irrep.carrier.dim))
        if irrep.norm == 2 and np.linalg.norm(concrete) > 1e-9:
            # Of a pair of complex conjugate irreps the components fix a direction only up to a rotation within it.
            main = concrete / np.linalg.norm(concrete)
        else:
            components = irrep.transfers(self.representation) @ vector  # [dim, 3 N + 9]
            values, vectors = np.linalg.eigh(components @ components.T)
            main = vectors[:, values.argmax()]
        direction = to_axes @ irrep.basis.T @ main
        if irrep.carrier.l == 1 and irrep.carrier.p == -1:
            sign = direction @ self.polar_vector(displacement)
        elif irrep.carrier.l == 2 and irrep.carrier.p == 1:
            sign = (quadrupole(direction) * strain).sum()
        else:
            sign = 0.0
        if abs(sign) < 1e-9:
            sign = direction[np.abs(direction).round(6).argmax()]
        return direction * np.sign(sign)
