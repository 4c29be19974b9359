"""What is drawn, as arrays: surfaces of theta, tables of its components, atoms with their images."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..compat import o3

if TYPE_CHECKING:
    from ase import Atoms

    from ..o3 import RelaxedWeights

GRID = (41, 81)  # points of a surface along the polar and the azimuthal angle


def gauge_fixed(theta: RelaxedWeights, effects: dict[str, float] | None) -> np.ndarray:
    """Return theta with each irrep scaled to what it does, its largest component positive; raw theta without effects.

    Theta itself is defined only up to the scale and sign of the weights it multiplies.
    """
    value = theta().detach().double().cpu().numpy().copy()
    if effects is None:
        return value
    for ir, s in theta.blocks():
        part = value[s]
        if part.any():
            part *= effects[str(ir)] / np.linalg.norm(part) * np.sign(part[np.abs(part).round(6).argmax()])
    return value


def surface(theta: RelaxedWeights, effects: dict[str, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the spherical signal of theta as a surface ``[n, m, 3]`` and its values ``[n, m]``.

    The signal is the sum of theta's components with the spherical harmonics; its distance from the origin is its
    absolute value. Only irreps of natural parity, p = (-1)^l, are functions on the sphere; the others are left out.

    Args:
        theta (RelaxedWeights): The weights.
        effects (dict of str to float, optional): What each irrep does, to fix the gauge of theta.
    """
    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, GRID[0]), np.linspace(0, 2 * np.pi, GRID[1]), indexing="ij")
    points = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)],
        axis=-1,
    )
    value, values = torch.as_tensor(gauge_fixed(theta, effects)), torch.zeros(GRID, dtype=torch.float64)
    for (mul, ir), s in zip(theta.irreps_theta, theta.irreps_theta.slices(), strict=True):
        if ir.p == (-1) ** ir.l:
            Y = o3.spherical_harmonics(ir.l, torch.as_tensor(points), normalize=True, normalization="component")
            values += Y @ value[s].view(mul, ir.dim).sum(0)
    return points * values.abs().numpy()[..., None], values.numpy()


def components(theta: RelaxedWeights, effects: dict[str, float] | None = None) -> tuple[list[str], np.ndarray]:
    """Return the irreps of theta and a table ``[irreps, 2 lmax + 1]`` of its components, centred, NaN where none is.

    Args:
        theta (RelaxedWeights): The weights.
        effects (dict of str to float, optional): What each irrep does, to fix the gauge of theta.
    """
    irreps, value = theta.irreps_theta, gauge_fixed(theta, effects)
    names, rows = [], []
    for (mul, ir), s in zip(irreps, irreps.slices(), strict=True):
        for copy, part in enumerate(value[s].reshape(mul, ir.dim)):
            row = np.full(2 * irreps.lmax + 1, np.nan)
            row[irreps.lmax - ir.l : irreps.lmax + ir.l + 1] = part
            rows.append(row)
            names.append(str(ir) if mul == 1 else f"{ir} #{copy + 1}")
    return names, np.array(rows)


def component_text(value: float, digits: int) -> str:
    """Return how a component is written: ``"0"`` for an exact zero, empty where there is none."""
    if np.isnan(value):
        return ""
    return "0" if value == 0 else f"{round(value, digits) + 0.0:.{digits}f}"


def with_images(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return the index ``[n]`` of each atom to draw and the cells ``[n, 3]`` it is shifted by.

    Atoms on faces of the cell are drawn on every one of them.
    """
    scaled = atoms.get_scaled_positions(wrap=False)
    home = np.floor(scaled + 1e-4)
    index, shifts = [], []
    for i, place in enumerate(scaled - home):
        for shift in product((0, 1), repeat=3):
            if (place + shift < 1 + 1e-4).all():
                index.append(i)
                shifts.append(shift - home[i])
    return np.array(index), np.array(shifts)


def places(atoms: Atoms, index: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return the positions of images of atoms, ``[n, 3]``, Å."""
    return atoms.positions[index] + shifts @ atoms.cell.array


def cell_edges(cell: np.ndarray) -> np.ndarray:
    """Return the twelve edges of a cell, ``[12, 2, 3]``."""
    edges = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        for corner in product((0, 1), repeat=2):
            start = corner[0] * cell[others[0]] + corner[1] * cell[others[1]]
            edges.append([start, start + cell[axis]])
    return np.array(edges)


def arrow_scale(displacement: np.ndarray, edge: float) -> float:
    """Return the round factor by which displacements are enlarged so that the longest is about a third of the cell."""
    longest = np.linalg.norm(displacement, axis=1).max()
    if longest < 1e-9:
        return 1.0
    factor = edge / 3 / longest
    power = 10 ** np.floor(np.log10(factor))
    return float(power * max(step for step in (1, 2, 5) if step * power <= factor))
