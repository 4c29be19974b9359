"""Still pictures (PNG), with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors

from ..surgery import thetas
from .geometry import arrow_scale, cell_edges, component_text, components, places, surface, with_images

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from ..discovery import Discovery
    from ..o3 import RelaxedWeights

DPI = 150


def save_pictures(result: Discovery, directory: Path) -> list[str]:
    """Write ``summary``, ``structure``, ``theta``, ``weights`` and ``losses`` as PNG; return the names of the files."""
    from matplotlib.figure import Figure

    layers = list(thetas(result.model).values())
    figures = {"summary": summary(result)}

    figures["structure"] = Figure(figsize=(5, 5), layout="constrained")
    structure(figures["structure"].add_subplot(projection="3d"), result)

    figures["theta"] = Figure(figsize=(4 * len(layers), 4), layout="constrained")
    for i, (theta, effects) in enumerate(zip(layers, result.effects, strict=True), start=1):
        signal(figures["theta"].add_subplot(1, len(layers), i, projection="3d"), theta, f"layer {i}", effects)

    figures["weights"] = Figure(figsize=(4.2 * len(layers), 3.6), layout="constrained")
    for i, (theta, effects) in enumerate(zip(layers, result.effects, strict=True), start=1):
        weights(figures["weights"].add_subplot(1, len(layers), i), theta, f"layer {i}, effect in Å", effects)

    figures["losses"] = Figure(figsize=(5, 3.6), layout="constrained")
    losses(figures["losses"].add_subplot(), result)
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=DPI)
    return [f"{name}.png" for name in figures]


def summary(result: Discovery) -> Figure:
    """Draw crystal, theta and losses side by side under the main finding."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    figure.suptitle(result.headline(), fontsize=13)
    structure(figure.add_subplot(1, 3, 1, projection="3d"), result)
    # The layer that breaks most.
    broken = [max((value for ir, value in effects.items() if ir != "0e"), default=0.0) for effects in result.effects]
    layer = int(np.argmax(broken))
    theta = list(thetas(result.model).values())[layer]
    title = f"theta of layer {layer + 1}: a sphere breaks nothing"
    signal(figure.add_subplot(1, 3, 2, projection="3d"), theta, title, result.effects[layer])
    losses(figure.add_subplot(1, 3, 3), result)
    return figure


def structure(ax: Any, result: Discovery) -> None:
    """Draw the parent, with an arrow for the displacement of each atom."""
    atoms, displacement = result.parent.atoms, result.mapping.displacement
    scale = arrow_scale(displacement, result.parent.edge)
    index, shifts = with_images(atoms)
    where = places(atoms, index, shifts)
    for start, end in cell_edges(atoms.cell.array):
        ax.plot(*np.stack([start, end]).T, color="0.6", linewidth=1)
    for z in sorted(set(atoms.numbers), reverse=True):
        chosen = atoms.numbers[index] == z
        size, colour = 220 * covalent_radii[z], jmol_colors[z]
        ax.scatter(*where[chosen].T, s=size, color=colour, edgecolors="0.3", label=chemical_symbols[z])
    if result.is_broken:
        ax.quiver(*where.T, *(scale * displacement[index]).T, color="navy", linewidth=2.5)
    ax.set_title(f"parent, displacements × {scale:g}" if result.is_broken else "nothing moves", fontsize=10)
    ax.legend(loc="lower center", ncols=4, frameon=False, fontsize=9, markerscale=0.6)
    _bare(ax)


def signal(ax: Any, theta: RelaxedWeights, title: str, effects: dict[str, float] | None = None) -> None:
    """Draw theta as a surface around the origin; scaled to what each irrep does if that is given."""
    from matplotlib import colormaps

    points, values = surface(theta, effects)
    limit = np.abs(values).max()
    colours = colormaps["RdBu_r"](0.5 + values / (2 * limit))
    ax.plot_surface(*np.moveaxis(points, -1, 0), facecolors=colours, rstride=1, cstride=1, linewidth=0)
    for axis, name in enumerate("xyz"):
        tip = 1.3 * limit * np.eye(3)[axis]
        ax.plot(*np.stack([np.zeros(3), tip]).T, color="0.5", linewidth=1)
        ax.text(*(1.12 * tip), name, ha="center", va="center")
    ax.set_title(title, fontsize=10)
    _bare(ax)


def weights(ax: Any, theta: RelaxedWeights, title: str, effects: dict[str, float] | None = None) -> None:
    """Draw the components of theta, exact zeros as a 0; scaled to what each irrep does, Å, if that is given."""
    irreps, table = components(theta, effects)
    limit, degree = np.nanmax(np.abs(table)), table.shape[1] // 2
    ax.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            dark = abs(value) > 0.6 * limit
            ax.text(
                column,
                row,
                component_text(value, 2),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    ax.set_xticks(range(2 * degree + 1), range(-degree, degree + 1))
    ax.set_yticks(range(len(irreps)), irreps)
    ax.set(title=title, xlabel="component (l = 1: x, y, z)", ylabel="irrep of theta")


def losses(ax: Any, result: Discovery) -> None:
    """Draw the loss of the strict and of the relaxed networks against the step."""
    for seed, fit in zip(result.seeds, result.fits, strict=True):
        ax.semilogy(fit.losses, label=f"relaxed, seed {seed}")
    ax.semilogy(result.strict.losses, "k--", label="strict")
    ax.set(xlabel="step", ylabel="loss")
    ax.legend(frameon=False)


def _bare(ax: Any) -> None:
    ax.set_proj_type("ortho")
    ax.view_init(elev=18, azim=-60)
    ax.set_aspect("equal")
    ax.set_axis_off()
