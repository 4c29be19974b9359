"""A potential made ready for other programs: its weights and its theta in as few matrices as there can be.

What is trained no longer changes, so linear maps that follow each other, and theta in them, are one matrix each, found
by letting the layers act on unit vectors. What remains are a few operations of plain torch, which ``torch.jit.script``
takes as well as ``torch.export``: TorchScript reads no string as a type, so there are no postponed annotations here.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..compat import default_dtype
from ..kernels.cpu import networked
from ..kernels.cpu.harmonics import recursion
from ..kernels.cpu.sorting import sort_edges
from ..kernels.paths import PathTable
from ..models import RelaxedPotential
from ..nn import Gate, PairRepulsion, RelaxedConv, RelaxedInteraction
from ..nn.radial import Radial, polynomial_envelope
from ..nn.repulsion import BOHR, COULOMB

KERNELS = ("torch", "compiled")


class Matrix(torch.nn.Module):
    r"""A matrix that changes linearly with the fields of a structure: :math:`M_0 + \sum_k f_k M_k`.

    Args:
        value: The matrix ``[K, L]``, or a function that returns it for fields ``[F]``.
        num_fields: Number F of the components of the fields.

    Example:
        >>> matrix = Matrix(lambda field: torch.eye(2) * (1 + field.sum()), num_fields=1)
        >>> matrix(torch.ones(1, 2), torch.tensor([2.0]))
        tensor([[3., 3.]])
    """

    base: Tensor
    slopes: Tensor

    def __init__(self, value: Tensor | Callable[[Tensor], Tensor], num_fields: int = 0) -> None:
        super().__init__()
        if isinstance(value, Tensor):
            base, slopes = value, []
        else:
            base = value(torch.zeros(num_fields))
            slopes = [value(field) - base for field in torch.eye(num_fields)]
        self.register_buffer("base", base.detach().clone())
        self.register_buffer("slopes", torch.stack(slopes).flatten(1) if slopes else base.new_zeros(0, base.numel()))

    def forward(self, x: Tensor, field: Tensor) -> Tensor:
        """Return the image ``[N, L]`` of rows ``[N, K]``."""
        matrix = self.base
        if self.slopes.shape[0] > 0:
            matrix = matrix + (field @ self.slopes).view(matrix.shape)
        return x @ matrix


class Harmonics(torch.nn.Module):
    """Spherical harmonics of unit vectors ``[E, 3]`` up to a degree, ``[E, (lmax + 1)^2]``, each from the one below.

    Example:
        >>> Harmonics(1)(torch.tensor([[0.0, 0.0, 1.0]])).square()
        tensor([[1., 0., 0., 3.]])
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        steps = []
        for l, coefficients in enumerate(recursion(lmax)[1:], start=1):
            matrix = torch.zeros(2 * l - 1, 3, 2 * l + 1)
            for place, value in coefficients.items():
                matrix[place] = value
            steps.append(_linear(matrix.flatten(0, 1)))
        self.steps = torch.nn.ModuleList(steps)

    def forward(self, direction: Tensor) -> Tensor:
        """Return the harmonics."""
        last = torch.ones_like(direction[:, :1])
        found = [last]
        for step in self.steps:
            last = step((last.unsqueeze(2) * direction.unsqueeze(1)).flatten(1))
            found.append(last)
        return torch.cat(found, dim=1)


class Perceptron(torch.nn.Module):
    """A :class:`~pyg_relaxed.nn.Radial` up to its last layer: from lengths ``[E]`` to hidden features."""

    wave_numbers: Tensor

    def __init__(self, radial: Radial) -> None:
        super().__init__()
        self.register_buffer("wave_numbers", radial.wave_numbers.clone())
        self.shortest = 1e-9 * radial.cutoff  # as there
        _, matrices = radial.network(torch.ones(1))
        self.hidden = torch.nn.ModuleList(_linear(matrix) for matrix in matrices[:-1])

    def forward(self, length: Tensor) -> Tensor:
        """Return the hidden features."""
        length = length.clamp(min=self.shortest).unsqueeze(1)
        x = torch.sin(length * self.wave_numbers) / length
        for layer in self.hidden:
            x = silu(layer(x))
        return x


class Product(torch.nn.Module):
    """The tensor product of block ``i`` of the features with the harmonics: per edge a matrix product and weights.

    Args:
        table: The paths.
        i: Number of the block.
        last: Last matrix of the radial network, ``[hidden, weight_numel]``; each of its columns is taken as often as
            its weight is used, which costs less than to spread the weights of each edge.
        turn: What theta makes of the harmonics, for fields ``[F]``.
        num_fields: Number F of the components of the fields.
    """

    def __init__(
        self, table: PathTable, i: int, last: Tensor, turn: Callable[[Tensor], Tensor], num_fields: int
    ) -> None:
        super().__init__()
        self.channels, ir_in = table.irreps_in[i]
        self.dim = ir_in.dim
        self.start = table.irreps_in.slices()[i].start
        couplings, weights, places = [], [], []
        channel = torch.arange(self.channels)
        for path in (path for path in table.paths if path.i == i):
            coupling = torch.zeros(table.irreps_sh.dim, path.ir_out.dim, self.dim)
            j = table.irreps_sh.slices()[path.j].start + path.v * path.ir_sh.dim
            coupling[j : j + path.ir_sh.dim] = table.coefficients(path).permute(1, 2, 0)
            couplings.append(coupling)
            start, stride = table.position(path.k)
            for component in range(path.ir_out.dim):
                weights.append(path.weights[0] + path.weights[1] * channel)
                places.append(start + component * stride + channel)
        coupling = torch.cat(couplings, dim=1)
        self.columns = coupling.shape[1]
        self.places = torch.cat(places)
        self.maps = Matrix(lambda field: turn(field) @ coupling.flatten(1), num_fields)
        self.weights = _linear(last[:, torch.cat(weights)])

    def forward(self, x_j: Tensor, sh: Tensor, hidden: Tensor, field: Tensor) -> Tensor:
        """Return the product of each edge, channels innermost."""
        x_j = x_j.narrow(1, self.start, self.dim * self.channels).view(-1, self.dim, self.channels)
        maps = self.maps(sh, field).view(-1, self.columns, self.dim)
        return torch.bmm(maps, x_j).flatten(1) * self.weights(hidden)


class Sums(torch.nn.Module):
    """The sum over neighbours in plain torch, its columns in the order ``places`` of the kernel's output."""

    def __init__(self, conv: RelaxedConv, turn: Callable[[Tensor], Tensor], num_fields: int) -> None:
        super().__init__()
        table = conv.kernel.table
        self.hidden = Perceptron(_radial(conv))
        _, matrices = _radial(conv).network(torch.ones(1))
        blocks = sorted({path.i for path in table.paths})
        products = [Product(table, i, matrices[-1], turn, num_fields) for i in blocks]
        self.places = torch.cat([product.places for product in products])
        self.products = torch.nn.ModuleList(products)

    def forward(self, x: Tensor, edge_index: Tensor, length: Tensor, sh: Tensor, field: Tensor) -> Tensor:
        """Return the sum at each atom."""
        x_j, hidden = x.index_select(0, edge_index[0]), self.hidden(length)
        messages = torch.cat([product(x_j, sh, hidden, field) for product in self.products], dim=1)
        return x.new_zeros([x.shape[0], messages.shape[1]]).index_add(0, edge_index[1], messages)


class CompiledSums(torch.nn.Module):
    """The sum over neighbours by the kernel in C, which only a process that imports this package has."""

    matrices: Tensor
    wave_numbers: Tensor

    def __init__(self, conv: RelaxedConv, turn: Callable[[Tensor], Tensor], num_fields: int) -> None:
        super().__init__()
        self.turn = Matrix(turn, num_fields)
        self.places = torch.arange(conv.kernel.irreps_out.dim)
        self.spec = conv.kernel.table.spec
        _, matrices = _radial(conv).network(torch.ones(1))
        self.widths = [len(matrices[0]), *(matrix.shape[1] for matrix in matrices)]
        self.register_buffer("matrices", torch.cat([matrix.detach().flatten() for matrix in matrices]))
        self.register_buffer("wave_numbers", _radial(conv).wave_numbers.clone())

    def forward(self, x: Tensor, edge_index: Tensor, length: Tensor, sh: Tensor, field: Tensor) -> Tensor:
        """Return the sum at each atom."""
        length = length.unsqueeze(1)
        basis = torch.sin(length * self.wave_numbers) / length
        num_atoms = x.shape[0]  # len(x) would be a constant of the export
        order = sort_edges(edge_index, num_atoms, num_atoms)
        sh = self.turn(sh, field)
        return networked(x, sh, basis, self.matrices, order, num_atoms, self.widths, self.spec, False)


class Activation(torch.nn.Module):
    """A :class:`~pyg_relaxed.nn.Gate` of features in the order ``columns``: scalars, what is gated, a gate for each."""

    is_even: Tensor
    factor: Tensor

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        scalars, gates, gated = gate.sort(torch.arange(gate.irreps_in.dim)[None])[0].split(gate._dims)
        self.sizes = [len(scalars), len(gated), len(gated)]
        blocks = gates.split([mul for mul, _ in gate._gated]) if len(gated) else ()
        of_each = [block.repeat(dim) for block, (_, dim) in zip(blocks, gate._gated, strict=True)]
        self.columns = torch.cat([scalars, gated, *of_each])
        parities = [ir.p for mul, ir in gate.irreps_out if ir.l == 0 for _ in range(mul)]
        factors = [activation.cst for activation in gate.activations]
        self.register_buffer("is_even", torch.tensor(parities) == 1)
        self.register_buffer("factor", torch.tensor(factors).repeat_interleave(torch.tensor(gate._scalars)))
        self.gate_factor = float(gate.gate_activation.cst)

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated and gated features."""
        scalars, gated, gates = x.split(self.sizes, dim=1)
        activated = torch.where(self.is_even, silu(scalars), torch.tanh(scalars)) * self.factor
        return torch.cat([activated, gated * silu(gates) * self.gate_factor], dim=1)


class Layer(torch.nn.Module):
    """One :class:`~pyg_relaxed.nn.RelaxedInteraction` with theta as a function of the fields."""

    def __init__(
        self, layer: RelaxedInteraction, theta: Callable[[Tensor], Tensor], num_fields: int, kernels: str
    ) -> None:
        super().__init__()
        conv, num_out = layer.conv, layer.gate.irreps_in.dim
        contraction, breaking, connection = conv.contraction, conv.breaking, conv.self_connection

        def turn(field: Tensor) -> Tensor:
            return torch.eye(conv.irreps_sh.dim) if contraction is None else contraction(theta(field))

        def neighbours(field: Tensor) -> Tensor:
            out = conv.linear(torch.eye(conv.kernel.irreps_out.dim))
            y = out[:, :num_out] if breaking is None else breaking(out, theta(field), out[:, :num_out])
            return y[self.sums.places][:, self.gate.columns]

        def own(field: Tensor) -> Tensor:
            x = torch.eye(conv.irreps_in.dim)
            if connection is None:
                return x.new_zeros(len(x), num_out)[:, self.gate.columns]
            return connection(x, None if connection.theta is None else theta(field))[:, self.gate.columns]

        self.gate = Activation(layer.gate)
        self.sums = (CompiledSums if kernels == "compiled" else Sums)(conv, turn, num_fields)
        self.neighbours = Matrix(neighbours, num_fields)
        self.own = Matrix(own, num_fields)

    def forward(self, x: Tensor, edge_index: Tensor, length: Tensor, sh: Tensor, field: Tensor) -> Tensor:
        """Return the new features of the atoms."""
        sums = self.sums(x, edge_index, length, sh, field)
        return self.gate(self.neighbours(sums, field) + self.own(x, field))


class Repulsion(torch.nn.Module):
    """A :class:`~pyg_relaxed.nn.PairRepulsion` with all that depends on two elements in tables."""

    strength: Tensor
    reach: Tensor
    decays: Tensor
    amplitudes: Tensor

    def __init__(self, pairs: PairRepulsion) -> None:
        super().__init__()
        Z, powers, radii = pairs.charges, pairs.charges**0.23, pairs.radii
        self.num_species = len(Z)
        self.register_buffer("strength", 0.5 * COULOMB * torch.outer(Z, Z).flatten())
        self.register_buffer("reach", (radii[:, None] + radii).clamp(max=pairs.cutoff).flatten())
        screening = 0.8854 * BOHR / (powers[:, None] + powers).flatten()
        self.register_buffer("decays", pairs.decays / screening[:, None])
        self.register_buffer("amplitudes", pairs.amplitudes.clone())

    def forward(self, length: Tensor, kind: Tensor, edge_index: Tensor) -> Tensor:
        """Return the energy of each atom."""
        pair = kind[edge_index[0]] * self.num_species + kind[edge_index[1]]
        phi = torch.exp(-length.unsqueeze(1) * self.decays[pair]) @ self.amplitudes
        energy = self.strength[pair] / length * phi * polynomial_envelope(length / self.reach[pair], 1.0)
        return length.new_zeros([kind.shape[0]]).index_add(0, edge_index[1], energy)


class FoldedPotential(torch.nn.Module):
    """The energies of atoms by a :class:`~pyg_relaxed.models.RelaxedPotential`; see :func:`fold`.

    Shapes:
        - **input:** atomic numbers ``[N]``, edge indices ``[2, E]``, edge vectors ``[E, 3]`` in Å, and the fields that
          come with the structure, one after the other, ``[F]``
        - **output:** energies ``[N]``, eV, float64
    """

    species: Tensor
    embedding: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, model: RelaxedPotential, fields: Tensor | None, kernels: str) -> None:
        super().__init__()
        network = model.network
        num_fields = model.irreps_field.dim if fields is None else 0
        self.cutoff = network.cutoff
        self.scale_of_edges = network.embed_edges.num_neighbors**-0.5
        self.harmonics = Harmonics(network.config["lmax"])
        one_hot = torch.eye(len(model.species))
        embedded = network.embedding(network.enter(torch.cat([one_hot, torch.ones(len(one_hot), 1)], dim=1)))
        self.register_buffer("species", model.species.clone())
        self.register_buffer("embedding", embedded)
        self.register_buffer("scale", model.scale.clone())
        self.register_buffer("shift", model.shift.clone())
        common = model.common_fields()
        layers = []
        for layer, embed in zip(network.layers, network.fields, strict=True):
            assert isinstance(layer, RelaxedInteraction)
            theta = _theta(layer, embed, fields, common)
            layers.append(Layer(layer, theta, num_fields, kernels))
        self.layers = torch.nn.ModuleList(layers)
        readout = network.leave(network.readout(torch.eye(network.readout.irreps_in.dim)))
        self.readout = _linear(readout[:, :1])
        self.repulsion = None if model.repulsion is None else Repulsion(model.repulsion)

    def forward(self, z: Tensor, edge_index: Tensor, edge_vec: Tensor, field: Tensor) -> Tensor:
        """Return the energy of each atom."""
        kind = torch.searchsorted(self.species, z)
        length = torch.linalg.vector_norm(edge_vec, dim=1)
        scale = polynomial_envelope(length, self.cutoff) * self.scale_of_edges
        sh = self.harmonics(edge_vec / length.unsqueeze(1)) * scale.unsqueeze(1)
        x = self.embedding[kind]
        for layer in self.layers:
            x = layer(x, edge_index, length, sh, field)
        energies = self.readout(x).squeeze(1) * self.scale[kind]
        if self.repulsion is not None:
            energies = energies + self.repulsion(length, kind, edge_index)
        return energies.double() + self.shift[kind]


@torch.no_grad()
def fold(
    model: RelaxedPotential, fields: Mapping[str, Sequence[float]] | None = None, kernels: str = "torch"
) -> FoldedPotential:
    """Return a potential for inference that gives the same energies, of the same dtype, on the same device.

    It knows no charge: the work of an electric field on that of a whole molecule is not among its energies.

    Matrices are multiplied in float64 whatever the dtype is. Tables of radial functions are not kept: the networks run.

    Args:
        model: The potential.
        fields: Values of its fields, to be part of it, beside what of them is learned; without them they are an input.
        kernels: ``"torch"`` for operations of torch alone, ``"compiled"`` for the kernels in C of this package.

    Raises:
        TypeError: If the model is no potential.
        ValueError: If ``fields`` are not those of the model, or there are no such kernels.

    Example:
        >>> from ase.build import molecule
        >>> import pyg_relaxed as pr
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1).eval()
        >>> water = pr.from_ase(molecule("H2O"))
        >>> energies = fold(model)(water.z, water.edge_index, pr.data.edge_vectors(water), torch.empty(0))
        >>> torch.allclose(energies, model(water)["energies"], atol=1e-5)
        True
    """
    if not isinstance(model, RelaxedPotential):
        raise TypeError(f"'model' must be a RelaxedPotential (got {type(model).__name__})")
    if kernels not in KERNELS:
        raise ValueError(f"'kernels' must be one of {', '.join(KERNELS)} (got '{kernels}')")
    like = next(model.parameters())
    with default_dtype(torch.float64):
        exact = copy.deepcopy(model).to("cpu", torch.float64).eval()
        folded = FoldedPotential(exact, _values(exact, fields), kernels)
    shift = folded.shift  # large: it stays in float64
    folded.to(like.dtype).shift = shift
    return folded.to(like.device).eval()


def _values(model: RelaxedPotential, fields: Mapping[str, Sequence[float]] | None) -> Tensor | None:
    if fields is None:
        return None
    if not set(model.fields) - set(model.learned) <= set(fields) <= set(model.fields):
        raise ValueError(f"'fields' must give values of {list(model.fields)}, the fields of the model ({list(fields)})")
    values = []
    for name, irreps in model.fields.items():
        values.append(torch.as_tensor(fields.get(name, torch.zeros(irreps.dim)), dtype=torch.float64).flatten())
        if len(values[-1]) != irreps.dim or not values[-1].isfinite().all():
            raise ValueError(
                f"the field '{name}' in {irreps} has {irreps.dim} finite components ({values[-1].tolist()})"
            )
    return torch.cat([torch.zeros(0), *values])


def _theta(
    layer: RelaxedInteraction, embed: torch.nn.Module, given: Tensor | None, common: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return theta of a layer as a function of the fields, or at those that are given; ``common`` ones are added."""
    own = layer.conv.theta

    def theta(field: Tensor) -> Tensor:
        assert own is not None
        field = field if given is None else given
        return own() + embed((field + common)[None])[0] if len(field) else own()

    return theta


def _radial(conv: RelaxedConv) -> Radial:
    assert isinstance(conv.radial, Radial)
    return conv.radial


def _linear(matrix: Tensor) -> torch.nn.Linear:
    """Return the module that multiplies rows by a matrix."""
    num_in, num_out = matrix.shape
    linear = torch.nn.Linear(num_in, num_out, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(matrix.detach().T.contiguous(), requires_grad=False)
    return linear
