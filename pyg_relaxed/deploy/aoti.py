"""A potential as a package of AOTInductor: compiled ahead of time, run without the code that it was written in."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.exc import InductorError
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx
from torch_geometric.data import Batch, Data

from ..checks import check_graph, check_reach, check_species
from ..compat import o3
from ..data import cell_volume
from ..files import check_directory
from ..kernels.cpu import CompilerError
from ..models import RelaxedPotential
from ..models.potential import ELECTRIC, is_open, push_on_charge
from .folded import FoldedPotential, fold
from .header import describe

KEY = "pyg_relaxed"  # of the metadata
MOST = 2**31 - 1  # atoms and edges; without a bound kernels on a GPU would count by the size of the example
INPUTS = ("z", "pos", "cell", "edge_index", "edge_cell_shift")
OUTPUTS = ("energy", "energies", "forces", "stress")


class Derivatives(torch.nn.Module):
    """Energy, forces and stress of one structure, of tensors alone.

    Args:
        potential: The energies of atoms.
        dims: Numbers of components of the fields that are inputs, by their names.

    Shapes:
        - **input:** ``z`` ``[N]``, ``pos`` ``[N, 3]``, ``cell`` ``[3, 3]``, ``edge_index`` ``[2, E]``,
          ``edge_cell_shift`` ``[E, 3]``, then each field
        - **output:** energy ``[1]``, energies ``[N]``, forces ``[N, 3]``, stress ``[3, 3]`` (NaN without a volume), and
          with an electric field the dipole moment ``[3]``
    """

    def __init__(self, potential: FoldedPotential, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.potential = potential
        self.names = list(dims)

    def forward(
        self, z: Tensor, pos: Tensor, cell: Tensor, edge_index: Tensor, edge_cell_shift: Tensor, *fields: Tensor
    ) -> tuple[Tensor, ...]:
        """Return all there is."""
        source, target = edge_index[0], edge_index[1]
        with torch.enable_grad():
            edge_vec = pos.index_select(0, source) - pos.index_select(0, target) + edge_cell_shift.to(pos.dtype) @ cell
            inputs = [edge_vec.detach().requires_grad_()]
            given = {name: field.detach() for name, field in zip(self.names, fields, strict=True)}
            if ELECTRIC in given:
                inputs.append(given[ELECTRIC].requires_grad_())
            field = torch.cat([pos.new_zeros(0), *given.values()])
            energies = self.potential(z, edge_index, inputs[0], field)
            gradient, *by_field = torch.autograd.grad(energies.sum(), inputs)
        forces = torch.zeros_like(pos).index_add(0, target, gradient).index_add(0, source, -gradient)
        volume = cell_volume(cell)
        stress = torch.where(volume > 0, gradient.T @ edge_vec / volume, torch.nan)
        energies = energies.detach()
        return energies.sum().view(1), energies, forces, stress, *(-moment for moment in by_field)


def export_aoti(
    model: RelaxedPotential,
    path: str | Path,
    *,
    fields: Mapping[str, Sequence[float]] | None = None,
    kernels: str = "torch",
) -> Path:
    """Compile a potential ahead of time to a ``.pt2`` package, for any number of atoms and edges.

    It takes the tensors of one structure in the order of ``INPUTS``, as :class:`Derivatives` describes them, then the
    fields of the model, and returns ``OUTPUTS`` as a list. Floating-point numbers are of the dtype of the model, but
    energies of float64; integers of int64. It checks nothing: elements must be among the ``species`` of the metadata,
    edges all those within the ``cutoff``. It knows no charge: the work of an electric field on the total charge of a
    molecule, and the force that all its atoms share, are added by :class:`Package`, which other programs do not have.

    Args:
        model: The potential. It is compiled for the device it is on.
        path: The file, ending in ``.pt2``, replaced as a whole or not at all.
        fields: Values of its fields, to be part of it; without them they are inputs.
        kernels: ``"torch"``, operations of torch alone, which programs in C++ run too; or ``"compiled"``, the kernels
            in C of this package, for Python processes that have imported it (on a CPU, faster but for a few atoms).

    Returns:
        The file.

    Raises:
        TypeError: If the model is no potential.
        ValueError: If ``fields`` or ``kernels`` cannot be, or the file has another ending.
        FileNotFoundError: If the directory does not exist.
        CompilerError: If torch finds no C++ compiler, or it fails.

    Example:
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1)
        >>> export_aoti(model, "water.pt")
        Traceback (most recent call last):
            ...
        ValueError: a package ends in .pt2 (got 'water.pt')
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"a package ends in .pt2 (got '{path.name}')")
    check_directory(path)
    potential = fold(model, fields, kernels)
    like = potential.embedding
    if kernels == "compiled" and like.device.type != "cpu":
        raise ValueError(f"kernels='compiled' are for a CPU, the model is on {like.device}: use kernels='torch'")
    dims = {name: irreps.dim for name, irreps in model.fields.items()} if fields is None else {}
    arguments = (*_example(potential.species, like), *(like.new_ones(dim) for dim in dims.values()))
    # The derivative becomes a part of the graph here: torch.export takes no calls of autograd.
    graph = make_fx(Derivatives(potential, dims), tracing_mode="symbolic", _allow_non_fake_inputs=True)(*arguments)
    atoms, edges = Dim("atoms", min=0, max=MOST), Dim("edges", min=0, max=MOST)
    shapes = ({0: atoms}, {0: atoms}, {}, {1: edges}, {0: edges}, *({} for _ in dims))
    program = torch.export.export(graph, arguments, dynamic_shapes=shapes, strict=False)
    header = describe(model, fields) | {"kernels": kernels, "inputs": [*INPUTS, *dims], "device": str(like.device)}
    header["outputs"] = [*OUTPUTS, *(["moment"] if ELECTRIC in dims else [])]
    options = {"aot_inductor.metadata": {KEY: json.dumps(header, ensure_ascii=True)}}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of itself
        built = os.path.join(folder, path.name)
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=built, inductor_configs=options)
        except InductorError as error:
            raise CompilerError(f"torch cannot compile the package: {error}") from error
        os.replace(built, path)
    return path


class Package:
    """A potential that :func:`export_aoti` has compiled, for graphs.

    Args:
        run: What torch has loaded.
        header: What the file says of it: ``species``, ``cutoff`` (Å), ``dtype``, ``fields``, ``theta``, ``versions``...

    Shapes:
        - **input:** one graph, as :class:`~pyg_relaxed.models.RelaxedPotential` takes it
        - **output:** what that returns, but for charges and the dipoles that follow from them; of fields that are part
          of the package no derivatives

    Raises:
        ValueError: For a batch, parts that do not fit together, an element that the model does not know, edges that end
            before its cutoff, or a field that is missing.
        TypeError: If it is no graph, or one of another dtype or on another device.
    """

    def __init__(self, run: Callable[..., Sequence[Tensor]], header: Mapping[str, Any]) -> None:
        self.run = run
        self.header = dict(header)
        self._learned = self.header.get("learned_fields", {})
        self._species = torch.tensor(header["species"])
        self._like = torch.empty(0, dtype=getattr(torch, header["dtype"]), device=header["device"])

    def __call__(self, data: Data) -> dict[str, Tensor]:
        """Return energy, forces and, for crystals, stress."""
        if not isinstance(data, Data):
            raise TypeError(f"a package takes a graph (got {type(data).__name__}): {self._way}")
        if isinstance(data, Batch) and data.num_graphs != 1:
            raise ValueError(f"a package takes one graph at a time (got a batch of {data.num_graphs})")
        check_species(data.z, self._species.to(data.z.device))
        check_reach(data.get("cutoff"), self.header["cutoff"])
        for name in ("pos", "cell"):
            if name in data and (data[name].dtype, data[name].device) != (self._like.dtype, self._like.device):
                raise TypeError(
                    f"'{name}' is {data[name].dtype} on {data[name].device}, the package was compiled for "
                    f"{self._like.dtype} on {self._like.device}: {self._way}"
                )
        cell, shift = data.get("cell"), data.get("edge_cell_shift")
        has_no_lattice = bool(is_open(data, 1))
        if cell is None or shift is None or has_no_lattice:
            if not has_no_lattice or (shift is not None and shift.any()):
                raise ValueError("a periodic graph needs 'pbc', 'cell' and 'edge_cell_shift': " + self._way)
            cell = data.pos.new_zeros(3, 3)
        cell = cell.view(3, 3)
        shift = data.edge_index.new_zeros(data.edge_index.shape[-1], 3) if shift is None else shift
        check_graph(data.z, data.pos, data.edge_index, shift)
        fields = {name: self._field(data, name) for name in self.header["inputs"][len(INPUTS) :]}
        inputs = (data.z.long(), data.pos, cell, data.edge_index.long(), shift.long(), *fields.values())
        found = self.run(*(value.contiguous() for value in inputs))  # it looks at no strides
        out = dict(zip(self.header["outputs"], found, strict=True))
        if has_no_lattice:
            self._push(data, fields, out)
        moment, stress = out.pop("moment", None), out.pop("stress")
        has_volume = bool(cell_volume(cell) > 0)
        if has_volume:
            out["stress"] = stress[None]
        if moment is not None and has_no_lattice:
            out["dipole"] = moment[None]
        if moment is not None and has_volume:
            out["polarization"] = moment[None] / cell_volume(cell)
        return out

    @property
    def _way(self) -> str:
        device = "" if self._like.device.type == "cpu" else f".to('{self._like.device}')"
        return f"give pr.from_ase(atoms, {self.header['cutoff']}, {self._like.dtype}, extras=False){device}"

    def _field(self, data: Data, name: str) -> Tensor:
        """Return what comes with the graph of a field; of learned ones that may be nothing."""
        field: Tensor | None = data.get(name)
        dim = o3.Irreps(self.header["fields"][name]).dim
        if field is None and name in self._learned:
            return data.pos.new_zeros(dim)
        if field is None:
            raise ValueError(f"the graph needs '{name}': zeros where there is none")
        if field.numel() != dim:
            raise ValueError(f"'{name}' has {dim} components (got {tuple(field.shape)})")
        return field.flatten().to(data.pos)

    def _push(self, data: Data, fields: Mapping[str, Tensor], out: dict[str, Tensor]) -> None:
        """Add what an electric field does to the charge of a molecule, as :class:`RelaxedPotential` does."""
        if ELECTRIC not in self.header["fields"]:
            return
        parts = [named[ELECTRIC] for named in (fields, self.header["given_fields"], self._learned) if ELECTRIC in named]
        field = data.pos.new_zeros(1, 3)
        for part in parts:
            field = field + torch.as_tensor(part).to(field)
        push = push_on_charge(data, field, torch.zeros_like(data.z, dtype=torch.long), 1)
        if push is None:
            return
        work = (push * data.pos).sum(dim=1)
        out["energies"] = out["energies"] - work
        out["energy"] = out["energy"] - work.double().sum()
        out["forces"] = out["forces"] + push
        if "moment" in out:
            out["moment"] = out["moment"] + data.charge.to(data.pos) * data.pos.mean(dim=0)

    def __repr__(self) -> str:
        species, cutoff = self.header["species"], self.header["cutoff"]
        return f"{self.__class__.__name__}(species={species}, cutoff={cutoff}, kernels='{self.header['kernels']}')"


def load_aoti(path: str | Path) -> Package:
    """Return a potential that :func:`export_aoti` has written.

    A package holds compiled code, which runs when it is loaded: load none that you do not trust.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no package of a potential.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no package at {path}")
    try:
        run = torch._inductor.aoti_load_package(str(path))
    except RuntimeError as error:
        engines = "; a .pt of metatomic is for its engines, see docs/deployment.md" if path.suffix == ".pt" else ""
        first = str(error).partition("\n")[0]
        raise ValueError(f"{path}: not a package of AOTInductor for this machine ({first}){engines}") from None
    metadata = run.get_metadata()
    if KEY not in metadata:
        raise ValueError(f"{path}: a package, but not written by pyg-relaxed")
    return Package(run, json.loads(metadata[KEY]))


def _example(species: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """Return a chain of atoms: no dimension has a size that could be taken for one that never changes."""
    atoms = 7
    first = torch.arange(atoms - 1, device=like.device)
    edge_index = torch.stack([torch.cat([first, first + 1]), torch.cat([first + 1, first])])
    pos = like.new_zeros(atoms, 3)
    pos[:, 0] = torch.arange(atoms)
    cell = 20 * torch.eye(3).to(like)
    return species[:1].repeat(atoms), pos, cell, edge_index, edge_index.new_zeros(edge_index.shape[1], 3)
