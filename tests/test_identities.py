"""The identities that must hold, over random irreps, graphs and elements of O(3), in float64."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.discovery import Fit, Parent, residual_group
from pyg_relaxed.discovery.diagnosis import irrep_effects
from pyg_relaxed.o3 import representation
from pyg_relaxed.symmetry import invariants, orbit, point_group, stabilizer

EXACT = 1e-10
POINT_GROUPS = (
    *("1", "-1", "2", "m", "2/m", "222", "mm2", "mmm", "4", "-4", "4/m", "422", "4mm", "-42m", "4/mmm", "3", "-3"),
    *("32", "3m", "-3m", "6", "-6", "6/m", "622", "6mm", "-6m2", "6/mmm", "23", "m-3", "432", "-43m", "m-3m"),
)
some = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
pytestmark = pytest.mark.usefixtures("float64")

irrep = st.builds(o3.Irrep, st.integers(0, 2), st.sampled_from([1, -1]))
irreps = st.lists(st.tuples(st.integers(1, 3), irrep), min_size=1, max_size=3).map(o3.Irreps)
spherical = st.sets(st.integers(0, 3), min_size=1, max_size=3).map(
    lambda degrees: o3.Irreps([(1, (l, (-1) ** l)) for l in sorted(degrees)])
)
theta_irreps = st.lists(
    st.tuples(st.integers(1, 2), st.builds(o3.Irrep, st.integers(0, 3), st.sampled_from([1, -1]))), max_size=3
).map(lambda rest: o3.Irreps([(1, "0e"), *rest]))
seeds = st.integers(0, 2**31 - 1)


@st.composite
def orthogonal(draw):
    """An element of O(3): random, or one of those where mistakes hide."""
    special = [torch.eye(3), -torch.eye(3), torch.diag(torch.tensor([1.0, -1, 1])), torch.eye(3)[[1, 2, 0]]]
    random = torch.as_tensor(Rotation.random(random_state=draw(st.integers(0, 999))).as_matrix())
    return draw(st.sampled_from([random, -random, *(R.double() for R in special)]))


def graph(irreps_in, seed, nodes=6, edges=18):
    """A directed random graph with duplicate edges, loops and a node that receives nothing."""
    torch.manual_seed(seed)
    edge_index = torch.stack([torch.randint(0, nodes, (edges,)), torch.randint(0, nodes - 1, (edges,))])
    edge_index[:, 1] = edge_index[:, 0]
    return o3.Irreps(irreps_in).randn(nodes, -1), edge_index, 2 * torch.randn(edges, 3)


def randomise(model):
    for theta in pr.thetas(model).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    return model


def on_edges(model, x, edge_index, edge_vec):
    return model(x, edge_index, edge_vec)


def linear(irreps_in, irreps_out, sh, theta):
    return pr.nn.RelaxedLinear(irreps_in, irreps_out, theta), lambda model, x, edge_index, edge_vec: model(x)


def conv(irreps_in, irreps_out, sh, theta, **options):
    return pr.nn.RelaxedConv(irreps_in, irreps_out, sh, theta, num_basis=3, radial_hidden=(8,), **options), on_edges


def paper(irreps_in, irreps_out, sh, theta):
    return conv(irreps_in, irreps_out, sh, theta, irreps_inter=theta)


def edges_only(irreps_in, irreps_out, sh, theta):
    return conv(irreps_in, irreps_out, sh, theta, relax_nodes=False, self_connection=False)


def nodes_only(irreps_in, irreps_out, sh, theta):
    return conv(irreps_in, irreps_out, sh, theta, relax_edges=False)


def mean(irreps_in, irreps_out, sh, theta):
    return conv(irreps_in, irreps_out, sh, theta, aggr="mean")


def network(irreps_in, irreps_out, sh, theta):
    hidden, small = "3x0e+2x0o+2x1o+2x1e+2x2e+2x2o", {"lmax": 2, "num_basis": 3, "radial_hidden": (8,)}
    return pr.models.RelaxedE3NN(irreps_in, irreps_out, hidden, theta, **small), on_edges


KINDS = [linear, conv, paper, edges_only, nodes_only, mean, network]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def build(kind, irreps_in, irreps_out, sh, theta):
    try:
        return kind(irreps_in, irreps_out, sh, theta)
    except ValueError as error:
        if "no path" in str(error):
            reject()
        raise


def difference(a, b):
    """Largest difference relative to the largest value."""
    return ((a - b).abs().max() / b.abs().max().clamp(min=1)).item()


@every_kind
@some
@given(irreps, irreps, spherical, theta_irreps, orthogonal(), seeds)
def test_2_frame_identity(kind, irreps_in, irreps_out, sh, theta, R, seed):
    """f_{D(R) theta}(R x) = D(R) f_theta(x)."""
    model, call = build(kind, irreps_in, irreps_out, sh, theta)
    randomise(model)
    x, edge_index, edge_vec = graph(irreps_in, seed)
    D_in, D_out = representation(irreps_in, R), representation(irreps_out, R)
    expected = call(model, x, edge_index, edge_vec) @ D_out.T
    turned = call(pr.rotate_(copy.deepcopy(model), R), x @ D_in.T, edge_index, edge_vec @ R.T)
    assert difference(turned, expected) < EXACT


@every_kind
@some
@given(irreps, irreps, spherical, theta_irreps, orthogonal(), seeds)
def test_1_equivariant_while_theta_is_scalar(kind, irreps_in, irreps_out, sh, theta, R, seed):
    model, call = build(kind, irreps_in, irreps_out, sh, theta)
    pr.strict_(randomise(model))
    x, edge_index, edge_vec = graph(irreps_in, seed)
    D_in, D_out = representation(irreps_in, R), representation(irreps_out, R)
    expected = call(model, x, edge_index, edge_vec) @ D_out.T
    assert difference(call(model, x @ D_in.T, edge_index, edge_vec @ R.T), expected) < EXACT


@every_kind
@pytest.mark.parametrize("ir", ["0o", "1o", "1e", "2e", "2o", "3o", "3e"])
def test_1_and_only_then(kind, ir):
    """Every irrep of theta breaks the symmetry in every place that it acts in."""
    full = "2x0e+2x0o+2x1o+2x1e+2x2e+2x2o"
    model, call = build(kind, full, full, "0e+1o+2e+3o", f"0e+{ir}")
    for theta in pr.thetas(model).values():
        theta.set_(torch.cat([torch.ones(1), torch.randn(theta.irreps_theta.dim - 1)]))
    x, edge_index, edge_vec = graph(full, 0)
    R = torch.as_tensor(Rotation.random(random_state=0).as_matrix())
    errors = []
    for g in (R, -R):
        D = representation(full, g)
        expected = call(model, x, edge_index, edge_vec) @ D.T
        errors.append(difference(call(model, x @ D.T, edge_index, edge_vec @ g.T), expected))
    # A pseudoscalar survives every proper rotation, by its nature. It turns no spherical harmonic into another, so that
    # on the edges alone it does nothing.
    assert (errors[0] < EXACT) == (ir == "0o")
    assert (errors[1] < EXACT) == (ir == "0o" and kind is edges_only)
    assert errors[1] < EXACT or errors[1] > 1e-5


@pytest.mark.parametrize("kind", [linear, conv, edges_only, nodes_only, mean], ids=lambda kind: kind.__name__)
@some
@given(irreps, irreps, spherical, theta_irreps, seeds)
def test_3_scalar_theta_is_the_strict_layer(kind, irreps_in, irreps_out, sh, theta, seed):
    relaxed, call = build(kind, irreps_in, irreps_out, sh, theta)
    strict, _ = build(kind, irreps_in, irreps_out, sh, None)
    own = strict.state_dict()
    shared = {key: value for key, value in relaxed.state_dict().items() if key in own}
    # Left out: what only theta connects, or needs further channels to act on.
    assume(shared.keys() == own.keys() and all(value.shape == own[key].shape for key, value in shared.items()))
    strict.load_state_dict(shared)
    data = graph(irreps_in, seed)
    assert torch.equal(call(relaxed, *data), call(strict, *data))


def test_3_scalar_theta_is_the_strict_network():
    every = "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"
    arguments = ("2x0e+2x0o+1o+1e+2e+2o", "0e+1o+2e", every)
    relaxed = pr.models.RelaxedE3NN(*arguments, irreps_theta="0e+1o+2x2e")
    strict = pr.models.RelaxedE3NN(*arguments)
    strict.load_state_dict({key: value for key, value in relaxed.state_dict().items() if key in strict.state_dict()})
    data = graph(arguments[0], 0)
    assert torch.equal(relaxed(*data), strict(*data))
    assert not torch.equal(randomise(relaxed)(*data), strict(*data))


@every_kind
def test_4_permutations_stay_exact(kind):
    full = "2x0e+2x0o+2x1o+2x1e+2x2e"
    model, call = build(kind, full, full, "0e+1o+2e", "0e+0o+1o+1e+2e")
    randomise(model)
    x, edge_index, edge_vec = graph(full, 0)
    order, edge_order = torch.randperm(len(x)), torch.randperm(len(edge_vec))
    permuted = call(model, x[order], order.argsort()[edge_index][:, edge_order], edge_vec[edge_order])
    assert difference(permuted, call(model, x, edge_index, edge_vec)[order]) < EXACT


def test_4_translations_stay_exact():
    model = randomise(pr.models.RelaxedDistortion([56, 22, 8], "0e+1o+2e", "4x0e+4x1o+4x2e", cutoff=4.5))
    crystal = pr.structures.load("BaTiO3_P4mm")
    before = model(pr.from_ase(crystal, cutoff=4.5, dtype=torch.float64))
    crystal.positions += [0.3, -1.7, 9.1]
    after = model(pr.from_ase(crystal, cutoff=4.5, dtype=torch.float64))
    for name in ("displacement", "strain"):
        assert difference(after[name], before[name]) < EXACT


@pytest.mark.parametrize("strict", [True, False])
def test_4_forces_sum_to_zero_and_torques_do_not(strict):
    """The strain derivative is symmetric in a strict network only: its antisymmetric part is the torque."""
    net = randomise(pr.models.RelaxedE3NN("3x0e", "0e", "4x0e+4x1o+4x2e", "0e+1o+1e+2e", cutoff=4.5, num_neighbors=30))
    if strict:
        pr.strict_(net)
    crystal = pr.structures.load("BaTiO3_R3m")
    crystal.rattle(0.05, seed=0)
    data = pr.from_ase(crystal, cutoff=4.5, dtype=torch.float64, extras=False)
    data.x = (data.z[:, None] == torch.tensor([56, 22, 8])).double()
    strain, pos = torch.zeros(3, 3, requires_grad=True), data.pos.requires_grad_()
    strained = data.clone()
    strained.pos, strained.cell = pos @ (torch.eye(3) + strain), data.cell @ (torch.eye(3) + strain)
    forces, stress = torch.autograd.grad(net(strained).sum(), [pos, strain])
    assert forces.norm() > 1e-3
    assert forces.sum(0).norm() < EXACT * forces.norm()
    torque = (stress - stress.T).norm() / stress.norm()
    assert torque < EXACT if strict else torque > 1e-3


CUBE = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]) / 2


def gradient_of_cube_to(scale):
    """The gradient in theta, at the equivariant point, of the loss of stretching a cube; theta up to l = 4."""
    pos = CUBE.double()
    edge_index = (torch.cdist(pos, pos) > 0).nonzero().T
    net = pr.models.RelaxedE3NN("0e", "1o", "4x0e+4x1o+4x2e", 4, lmax=2, cutoff=2.5, num_neighbors=7)
    out = net(Data(x=torch.ones(8, 1), pos=pos, edge_index=edge_index))
    (out - pos * torch.tensor(scale)).square().sum().backward()
    return [(theta.irreps_theta, theta.weight.grad) for theta in pr.thetas(net).values()]


def moved(irreps, vector, group):
    images = representation(irreps, point_group(group).operations) @ vector
    return ((images - vector).norm(dim=1).max() / vector.norm()).item()


@pytest.mark.parametrize(
    ("scale", "group", "larger"),
    [((1.0, 1.0, 1.0), "m-3m", None), ((1.0, 1.0, 4.0), "4/mmm", "m-3m"), ((1.0, 2.0, 3.0), "mmm", "4/mmm")],
)
def test_5_the_gradient_has_the_symmetry_of_the_data(scale, group, larger):
    for irreps_theta, gradient in gradient_of_cube_to(scale):
        assert moved(irreps_theta, gradient, group) < EXACT
        if larger is not None:
            assert moved(irreps_theta, gradient, larger) > 1e-3


@some
@given(st.sampled_from(POINT_GROUPS), seeds)
def test_5_for_any_group(group, seed):
    """One random example and its images under a group are data that the group maps to themselves."""
    full = "2x0e+0o+2x1o+1e+2e+2o"
    layer, call = conv(full, full, "0e+1o+2e", "0e+0o+2x1o+1e+2e+3o+4e")
    x, edge_index, edge_vec = graph(full, seed, nodes=4, edges=6)
    y = torch.randn_like(x)
    for R in torch.as_tensor(point_group(group).operations):
        D = representation(full, R)
        (call(layer, x @ D.T, edge_index, edge_vec @ R.T) - y @ D.T).square().sum().backward()
    gradient, irreps_theta = layer.theta.weight.grad, layer.theta.irreps_theta
    assert moved(irreps_theta, gradient, group) < EXACT
    generic = representation(irreps_theta, torch.as_tensor(Rotation.random(random_state=0).as_matrix()))
    assert (generic @ gradient - gradient).norm() > 1e-3 * gradient.norm()


@pytest.mark.parametrize("penalty", [0.0, 0.1])
def test_6_a_penalty_removes_what_the_data_do_not_need(penalty):
    """Strict data, and a theta that starts broken."""
    layer, teacher = pr.nn.RelaxedLinear("2x1o", "2x1o", "0e+1e+2e"), pr.nn.RelaxedLinear("2x1o", "2x1o")
    layer.theta.set_(torch.cat([torch.ones(1), 0.1 * torch.randn(8)]))
    x = torch.randn(64, 6)
    optimizer = pr.optim.RelaxedAdam(layer, lr=1e-2, penalty=penalty)
    for _ in range(800):
        optimizer.zero_grad()
        (layer(x) - teacher(x)).square().mean().backward()
        optimizer.step()
    norms = layer.theta.norms()
    assert (norms["1e"] == norms["2e"] == 0) == (penalty > 0)
    assert (layer(x) - teacher(x)).square().mean() < 1e-3


@pytest.mark.parametrize("group", POINT_GROUPS)
def test_7_projection_stabilizer_and_orbit_agree(group):
    irreps_theta = o3.Irreps("0e+0o+1o+1e+2e+2o+3o+4e")
    parent = "m-3m" if point_group(group).is_subgroup_of(point_group("m-3m")) else "6/mmm"
    theta = pr.RelaxedWeights(irreps_theta)
    theta.set_(torch.randn(irreps_theta.dim)).project_(group)
    value = theta().detach()
    found = stabilizer(value, irreps_theta, parent=parent)
    assert point_group(group).is_subgroup_of(found)
    assert len(orbit(value, irreps_theta, parent)) * len(found) == len(point_group(parent))
    basis = invariants(group, irreps_theta)
    assert difference(basis.T @ (basis @ value), value) < EXACT


@some
@given(theta_irreps, orthogonal(), st.sampled_from(POINT_GROUPS), seeds)
def test_7_the_stabilizer_turns_with_theta(theta, R, group, seed):
    torch.manual_seed(seed)
    value = invariants(group, theta).T @ torch.randn(len(invariants(group, theta)))
    assume(value.norm() > 0.1)
    turned = point_group(group).conjugate(R.numpy())
    found = stabilizer(representation(theta, R) @ value, theta, parent=turned)
    assert len(found) == len(point_group(group))


@pytest.mark.parametrize("factor", [-2.0, 0.1])
def test_8_theta_alone_is_no_result(factor):
    """Theta times a factor and its path weights divided by it are the same model."""
    layer = pr.nn.RelaxedConv("2x0e+2x1o", "2x0e+2x1o", "0e+1o", "0e+1o", relax_nodes=False, self_connection=False)
    randomise(layer)
    data = graph("2x0e+2x1o", 0)
    before, theta = layer(*data), layer.theta()
    with torch.no_grad():
        layer.theta.set_(torch.cat([theta[:1], factor * theta[1:]]))
        layer.contraction.weight /= factor
    assert difference(layer(*data), before) < EXACT
    assert not torch.allclose(layer.theta(), theta)


def change_gauge_(model, ir, factor):
    """Multiply an irrep of every theta by a factor and divide by it the weights that it meets."""
    for layer in model.modules():
        if not isinstance(layer, pr.nn.RelaxedConv):
            continue
        value = layer.theta().detach().clone()
        alone = torch.zeros_like(value)
        for other, s in layer.theta.blocks():
            if str(other) == ir:
                alone[s] = torch.randn(other.dim)
                value[s] *= factor
        parts = (layer.contraction, layer.contraction), *((b, b.matrix) for b in breaking(layer))
        for part, matrix in parts:
            out = matrix(alone)
            (met,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), part.weight)
            with torch.no_grad():
                part.weight[met != 0] /= factor
        layer.theta.set_(value)


def breaking(layer):
    return [module.breaking for module in (layer, layer.self_connection) if module is not None]


def test_8_what_is_reported_does_not_depend_on_the_gauge():
    factor = -2.0
    atoms = pr.structures.load("BaTiO3_Pm-3m")
    graph_, parent = pr.from_ase(atoms, cutoff=3.0, dtype=torch.float64, extras=False), Parent.from_atoms(atoms)
    model = pr.models.RelaxedDistortion(atoms.numbers, "0e+1o+2e", "4x0e+4x1o", lmax=1, cutoff=3.0, num_neighbors=10)
    pr.project_(randomise(model), "4mm")
    fit, other = (Fit(m, graph_, [0.0]) for m in (model, copy.deepcopy(model)))
    change_gauge_(other.model, "1o", factor)
    for theta, changed in zip(*(pr.thetas(f.model).values() for f in (fit, other)), strict=True):
        assert changed.norms()["1o"] == pytest.approx(abs(factor) * theta.norms()["1o"])
    for name, value in other.model(graph_).items():
        assert difference(value, model(graph_)[name]) < EXACT
    found, again = (residual_group(f, parent, symprec=1e-6) for f in (fit, other))
    assert found.group.hermann_mauguin == again.group.hermann_mauguin == "4mm"
    assert again.broken == pytest.approx(found.broken, rel=1e-8)
    for layer, same in zip(irrep_effects(fit, parent), irrep_effects(other, parent), strict=True):
        assert same == pytest.approx(layer, rel=1e-8, abs=EXACT)
        assert layer["1o"] > 1e-6
