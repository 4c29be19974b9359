"""The sentences of every "bad input" error: the value, the place, the way out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .compat import o3

_MAX_PAIRS = 5e8  # about 80 GB


def parse_irreps(name: str, irreps: Any) -> o3.Irreps:
    """Return irreps from anything e3nn takes.

    Raises:
        ValueError: If it is none of that; sizes such as -1 cannot be inferred.
    """
    try:
        return o3.Irreps(irreps)
    except (TypeError, ValueError, AssertionError):
        raise ValueError(f"'{name}' must be irreps such as '8x0e+4x1o' (got {irreps!r})") from None


def check_features(name: str, x: Tensor, irreps: o3.Irreps, dim: int, like: Tensor) -> None:
    """Raise unless ``x`` has shape ``[N, dim]`` and the dtype and device of the layer.

    Raises:
        ValueError: If it has another shape.
        TypeError: If it has another dtype or device.
    """
    if x.dim() != 2:
        raise ValueError(f"'{name}' must have shape (N, {dim}), one row a node (got {tuple(x.shape)})")
    check_last_dim(name, x, irreps, dim)
    check_dtype_device(name, x, like)


def check_last_dim(name: str, x: Tensor, irreps: o3.Irreps, dim: int) -> None:
    """Raise unless the last dimension of ``x`` is ``dim``, that of ``irreps`` (apart, so that compilers follow).

    Raises:
        ValueError: If it is not.
    """
    if x.shape[-1] != dim:
        raise ValueError(f"'{name}' must have last dimension {dim} for the irreps {irreps} (got {tuple(x.shape)})")


def check_layout(layout: str) -> None:
    """Raise unless a layout of features is one of the two.

    Raises:
        ValueError: If it is not.
    """
    if layout not in ("mul_ir", "ir_mul"):
        raise ValueError(f"'layout' must be 'mul_ir', e3nn's, or 'ir_mul', channels innermost (got '{layout}')")


def check_connected(layer: Any, connected: bool | int) -> None:
    """Raise if no path leads from the input irreps of a layer to its output irreps.

    Raises:
        ValueError: If there is none.
    """
    if not connected and layer.irreps_out.dim > 0:
        theta = layer.irreps_theta
        raise ValueError(
            f"no path connects 'irreps_in' {layer.irreps_in} to 'irreps_out' {layer.irreps_out} with theta in "
            f"{theta if theta is not None else '0e (strict)'}: add an irrep to one of the three"
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the question whether the nearest of known names was meant, or all of them.

    Example:
        >>> nearest("enrgy", ["energy", "forces"]), nearest("x", ["energy", "forces"])
        ("did you mean 'energy'?", 'known are energy, forces')
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"


def check_dtype_device(name: str, x: Tensor, like: Tensor) -> None:
    """Raise unless ``x`` has the dtype and device of ``like``, the layer's weights.

    Raises:
        TypeError: If it has not.
    """
    if x.dtype != like.dtype or x.device != like.device:
        convert = f"layer.to('{x.device}', {x.dtype})" if x.is_floating_point() else f"{name}.to({like.dtype})"
        raise TypeError(
            f"'{name}' is {x.dtype} on {x.device} but the layer is {like.dtype} on {like.device}: "
            f"convert one of them, e.g. `{convert}`"
        )


def check_orthogonal(R: Tensor) -> None:
    """Raise unless ``R`` holds 3 x 3 orthogonal matrices (rotations, mirrors, inversion), ``[..., 3, 3]``.

    Raises:
        ValueError: If it does not.
    """
    if R.shape[-2:] != (3, 3):
        raise ValueError(f"'R' must have shape (3, 3) (got {tuple(R.shape)})")
    error = (R @ R.mT - torch.eye(3, dtype=R.dtype, device=R.device)).abs().amax().item()
    if not error < 1e-5:
        raise ValueError(f"'R' must be orthogonal, an element of O(3): |R Rᵀ - 1| is {error:.2g}")


def check_sizes(x: tuple[Tensor, Tensor | None], size: Any) -> None:
    """Raise unless ``size`` is the number of source and target nodes, where both are known.

    Raises:
        ValueError: If it is not.
    """
    for name, given, features in zip(("source", "target"), size or (None, None), x, strict=True):
        if given is not None and features is not None and given != features.shape[0]:
            raise ValueError(f"'size' says {given} {name} nodes, 'x' has {features.shape[0]} of them")


def check_positive(name: str, value: float) -> None:
    """Raise unless a number is positive and finite.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"'{name}' must be positive and finite (got {value})")


def check_number(name: str, value: int, least: int = 1) -> None:
    """Raise unless a number of things is an integer, and not too small.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"'{name}' must be an integer of at least {least} (got {value!r})")


def as_device(device: str | torch.device) -> torch.device:
    """Return a device that there is.

    Raises:
        ValueError: If it cannot be had.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # of a word that is none, of a torch without it
        raise ValueError(f"there is no device '{device}' here: {str(error).splitlines()[0]}") from None


def check_network(inputs: Tensor, matrices: Sequence[Tensor], num_edges: int, weight_numel: int) -> None:
    """Raise unless matrices lead from inputs ``[num_edges, K]`` to ``weight_numel`` outputs.

    Raises:
        ValueError: If they do not.
    """
    widths = [inputs.shape[-1], *(matrix.shape[-1] for matrix in matrices)]
    fit = all(matrix.shape == (a, b) for matrix, a, b in zip(matrices, widths[:-1], widths[1:], strict=True))
    if inputs.dim() != 2 or inputs.shape[0] != num_edges or not fit or widths[-1] != weight_numel or not matrices:
        raise ValueError(
            f"'matrices' must lead from 'inputs' ({num_edges}, K) to {weight_numel} weights "
            f"(got {', '.join(str(tuple(t.shape)) for t in (inputs, *matrices))})"
        )


def check_table(length: Tensor, table: Tensor, num_edges: int, weight_numel: int) -> None:
    """Raise unless a table of splines has shape ``[knots, 2, weight_numel]`` and there are ``num_edges`` lengths.

    Raises:
        ValueError: If it has not.
    """
    if length.shape != (num_edges,):
        raise ValueError(f"'length' must have shape ({num_edges},), one for each edge (got {tuple(length.shape)})")
    if table.dim() != 3 or table.shape[0] < 2 or table.shape[1:] != (2, weight_numel):
        raise ValueError(f"'table' must have shape (knots >= 2, 2, {weight_numel}) (got {tuple(table.shape)})")


def check_edge_index(edge_index: Tensor, num_edges: int) -> None:
    """Raise unless ``edge_index`` has shape ``[2, num_edges]`` and is integer.

    Raises:
        ValueError: If it has another shape.
        TypeError: If it is not integer.
    """
    if edge_index.shape != (2, num_edges):
        raise ValueError(
            f"'edge_index' must have shape (2, {num_edges}), one column an edge (got {tuple(edge_index.shape)})"
        )
    if edge_index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"'edge_index' must be int64 (got {edge_index.dtype})")


def check_graph(z: Tensor, pos: Tensor, edge_index: Tensor, edge_cell_shift: Tensor) -> None:
    """Raise unless the parts of a graph fit together: code that is compiled would read beyond their ends.

    Raises:
        ValueError: If one has another shape, a position is not finite, or an edge ends at no atom.
        TypeError: If ``edge_index`` is not integer.
    """
    if pos.shape != (len(z), 3):
        raise ValueError(f"'pos' must have shape ({len(z)}, 3), as 'z' has {len(z)} atoms (got {tuple(pos.shape)})")
    if not bool(pos.isfinite().all()):
        atom = int((~pos.isfinite().all(dim=1)).nonzero()[0, 0])
        raise ValueError(f"atom {atom} has position {pos[atom].tolist()}: correct or remove it")
    check_edge_index(edge_index, edge_index.shape[-1])
    if edge_cell_shift.shape != (edge_index.shape[1], 3):
        raise ValueError(
            f"'edge_cell_shift' must have shape ({edge_index.shape[1]}, 3), as 'edge_index' has so many edges "
            f"(got {tuple(edge_cell_shift.shape)})"
        )
    outside = (edge_index < 0) | (edge_index >= len(z))
    if bool(outside.any()):
        edge = int(outside.any(dim=0).nonzero()[0, 0])
        raise ValueError(f"edge {edge} joins atoms {edge_index[:, edge].tolist()}, the graph has {len(z)}")


def check_positions(pos: np.ndarray) -> None:
    """Raise unless ``pos`` has shape ``[N, 3]``, is finite and within 1e8 Å.

    Raises:
        ValueError: If it is not; the atom is named.
    """
    if pos.ndim != 2 or pos.shape[1] != 3:
        raise ValueError(f"'pos' must have shape (N, 3) (got {pos.shape})")
    if (abs(pos) <= 1e8).all():  # float64 has 1e-8 Å left there
        return
    bad = np.flatnonzero(~np.isfinite(pos).all(axis=1))
    if len(bad):
        raise ValueError(f"atom {bad[0]} has position {pos[bad[0]].tolist()}: correct or remove it ({len(bad)} in all)")
    far = np.flatnonzero((abs(pos) > 1e8).any(axis=1))
    raise ValueError(
        f"atom {far[0]} has position {pos[far[0]].tolist()}, more than 1e8 Å away, too far for distances to mean "
        f"anything: give positions in Å, or remove it ({len(far)} in all)"
    )


def check_boxes(cell: np.ndarray, pbc: np.ndarray) -> None:
    """Raise unless ``cell`` holds 3 x 3 matrices and ``pbc`` three values for each.

    Raises:
        ValueError: If they do not.
    """
    if cell.shape[-2:] != (3, 3):
        raise ValueError(f"'cell' must have shape (3, 3), lattice vectors as rows or zeros (got {cell.shape})")
    if pbc.shape[-1:] != (3,):
        raise ValueError(f"'pbc' must have shape (3,), one for each lattice vector (got {pbc.shape})")


def check_reach(graph_cutoff: Tensor | None, cutoff: float) -> None:
    """Raise if the edges of a graph, within ``graph_cutoff`` ``[B]``, end before a model's cutoff.

    Raises:
        ValueError: If they do.
    """
    if graph_cutoff is not None and bool((graph_cutoff < cutoff * (1 - 1e-5)).any()):
        raise ValueError(
            f"the graph has the edges within {float(graph_cutoff.min()):g} Å, the model needs those within {cutoff:g}: "
            f"build it with cutoff={cutoff:g}"
        )


def check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    """Raise unless ``cell`` is finite and its periodic rows are independent and no shorter than 1e-3 Å.

    Raises:
        ValueError: If they are not.
    """
    if not np.isfinite(cell).all():
        raise ValueError(f"'cell' is {cell.tolist()}: give finite lattice vectors in Å")
    rows = cell[pbc]
    lengths = np.sqrt((rows * rows).sum(axis=1))
    if (lengths < 1e-3).any() and lengths.all():  # a search with such a cell would not end
        raise ValueError(f"'cell' {cell.tolist()} has a periodic vector shorter than 1e-3 Å: give it in Å")
    # relative to a box of the same edges, so that tiny and huge cells are judged alike
    if not lengths.all() or not _independent(rows / lengths[:, None]):
        raise ValueError(
            f"'pbc' is {pbc.tolist()} but the periodic vectors of 'cell' {cell.tolist()} span no volume: "
            "set pbc to False along the missing directions, or give independent vectors"
        )


def _independent(rows: np.ndarray) -> bool:
    """Tell whether unit vectors span a volume: the least singular value is no less than that, and takes longer."""
    if len(rows) == 3 and abs(np.linalg.det(rows)) > 1e-6:
        return True
    return bool(np.linalg.svd(rows, compute_uv=False)[-1:].min(initial=1.0) >= 1e-8)


def check_images(num_atoms: int, cell: np.ndarray, widths: Sequence[float], pbc: np.ndarray, cutoff: float) -> None:
    """Raise if the pairs within ``cutoff`` would not fit into memory, or the images to look at would never end.

    ``widths`` are those of the cell along its periodic vectors, those of the atoms along the others.

    Raises:
        ValueError: If they would.
    """
    along = [width for width, periodic in zip(widths, pbc, strict=True) if periodic]
    across = [width for width, periodic in zip(widths, pbc, strict=True) if not periodic]
    images = math.prod(2 * math.ceil(cutoff / width) + 1 for width in along)
    rows = cell[pbc]
    volume = math.sqrt(np.linalg.det(rows @ rows.T)) * math.prod(width + 1.4 * cutoff for width in across)
    neighbours = 4 / 3 * math.pi * cutoff**3 * num_atoms / volume
    bins = min(math.prod(max(width // cutoff, 1) for width in widths), 1e5)  # vesin looks from each into all images
    endless = images * bins > 5e8 or (images > 1e4 and images * num_atoms**2 > 1e8)
    if endless or neighbours > max(5e4, 2 * num_atoms) or neighbours * num_atoms > _MAX_PAIRS:
        raise ValueError(
            f"{num_atoms} atoms in the cell {cell.tolist()} would have about {neighbours:.2g} neighbours each within "
            f"{cutoff:g} Å, in {images:.2g} images of the cell: give the cell in Å (and its reduced form, if its "
            "vectors are nearly parallel), or a smaller cutoff"
        )


def check_cutoff(cutoff: float) -> None:
    """Raise unless ``cutoff`` is positive and finite.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"'cutoff' must be a positive, finite distance in Å (got {cutoff})")


def check_distances(
    i: np.ndarray | Tensor, j: np.ndarray | Tensor, distances: np.ndarray | Tensor, minimum: float = 1e-3
) -> None:
    """Raise if two atoms, or an atom and its own image, are closer than ``minimum`` Å.

    Raises:
        ValueError: If there are; the closest pair is named.
    """
    if len(distances) and distances.min() < minimum:
        k = int(distances.argmin())
        pair = f"atom {i[k]} and its own periodic image" if i[k] == j[k] else f"atoms {i[k]} and {j[k]}"
        raise ValueError(
            f"{pair} are {distances[k]:.2g} Å apart, on top of each other: remove one of them, or correct the cell"
        )


def check_elements(z: np.ndarray) -> None:
    """Raise unless every atomic number in ``z`` is that of an element, 1 to 118.

    Raises:
        ValueError: If one is not; the atom is named.
    """
    bad = np.flatnonzero((z < 1) | (z > 118))
    if len(bad):
        raise ValueError(
            f"atom {bad[0]} has atomic number {z[bad[0]]}, which is no element: give it one of 1 to 118, or remove it"
        )


def check_edge_vec(edge_vec: Tensor, edge_index: Tensor, like: Tensor) -> None:
    """Raise unless ``edge_vec`` has shape ``[E, 3]`` and the dtype and device of the layer.

    Raises:
        ValueError: If it has another shape.
        TypeError: If it has another dtype or device.
    """
    if edge_vec.dim() != 2 or edge_vec.shape[1] != 3 or edge_vec.shape[0] != edge_index.shape[-1]:
        raise ValueError(f"'edge_vec' must have shape ({edge_index.shape[-1]}, 3), Å (got {tuple(edge_vec.shape)})")
    check_dtype_device("edge_vec", edge_vec, like)


def check_species(z: Tensor, species: Tensor) -> None:
    """Raise unless every atomic number in ``z`` is among ``species``.

    Raises:
        ValueError: If one is not; it is named with its place.
    """
    unknown = ~torch.isin(z, species)
    if unknown.any():
        place = int(unknown.nonzero()[0, 0])
        raise ValueError(f"atom {place} has atomic number {int(z[place])}, the model knows only {species.tolist()}")
