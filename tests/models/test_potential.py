"""A potential is conservative, exact in its derivatives, and breaks symmetry by theta alone."""

from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from systems import assert_close, differentiate, system
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.data import rotate
from pyg_relaxed.models import RelaxedPotential
from pyg_relaxed.transforms import RadiusGraph

PBC = list(product([False, True], repeat=3))
CUTOFF = 3.5


@pytest.fixture(autouse=True)
def _float64(float64):
    torch.manual_seed(0)


def potential(irreps_theta="0e+1o+2e", **kwargs):
    kwargs = {"irreps_hidden": "4x0e+4x1o+2x2e", "num_layers": 2, "repulsion": True} | kwargs
    model = RelaxedPotential(["H", "C", "O"], CUTOFF, irreps_theta, **kwargs)
    for theta in pr.thetas(model).values():
        theta.set_(theta() + 0.5 * torch.randn(theta.irreps_theta.dim))
    return model.eval()


def graph(atoms):
    return pr.from_ase(atoms, CUTOFF)


def energy(model, atoms):
    return model(graph(atoms))["energy"].item()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pbc", PBC)
def test_forces_and_stress_are_derivatives_of_the_energy(pbc, seed):
    model, atoms = potential(None if seed == 0 else "0e+1o+2e"), system(seed, pbc)
    out = model(graph(atoms))

    def moved(h, atom, k):
        other = atoms.copy()
        other.positions[atom, k] += h
        return energy(model, other)

    def strained(h, a, b):
        F = np.eye(3)
        F[a, b] += h
        other = atoms.copy()
        other.set_cell(atoms.cell.array @ F.T, scale_atoms=False)
        other.positions = atoms.positions @ F.T
        return energy(model, other)

    scale = max(1.0, out["forces"].abs().max().item())
    for atom, k in product(range(len(atoms)), range(3)):
        assert_close(out["forces"][atom, k], -differentiate(lambda h: moved(h, atom, k)), scale)  # noqa: B023
    if not any(pbc):
        assert "stress" not in out
        return
    stress = out["stress"][0] * atoms.get_volume()
    for a, b in product(range(3), repeat=2):
        assert_close(stress[a, b], differentiate(lambda h: strained(h, a, b)), max(1.0, stress.abs().max()))  # noqa: B023


def test_the_derivative_in_theta():
    model, data = potential().train(), graph(system(3, (True, True, False)))

    def loss():
        out = model(data)
        return out["energy"].sum() + out["forces"].square().sum() + out["stress"].square().sum()

    for theta in pr.thetas(model).values():
        (gradient,) = torch.autograd.grad(loss(), theta.weight)
        start = theta().detach()

        def changed(h, k):
            theta.set_(start + h * torch.eye(len(start))[k])  # noqa: B023
            return loss().item()

        for k in range(len(start)):
            assert_close(gradient[k], differentiate(lambda h: changed(h, k)), gradient.abs().max().item())  # noqa: B023
        theta.set_(start)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True)])
def test_a_model_and_its_theta_turn_along(pbc, improper):
    model, data = potential(charges=True), graph(system(3, pbc))
    R = o3.rand_matrix() * (-1 if improper else 1)
    before = model(data)
    after = pr.rotate_(model, R)(rotate(data, R))
    torch.testing.assert_close(after["energy"], before["energy"], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after["forces"], before["forces"] @ R.T, rtol=1e-10, atol=1e-10)
    if "stress" in before:
        torch.testing.assert_close(after["stress"], R @ before["stress"] @ R.T, rtol=1e-10, atol=1e-10)
    else:
        torch.testing.assert_close(after["dipole"], before["dipole"] @ R.T, rtol=1e-10, atol=1e-10)


def torque(data, forces):
    return torch.linalg.cross(data.pos, forces).sum(dim=0)


def test_forces_sum_to_zero_and_the_torque_does_not_where_theta_breaks_the_symmetry():
    data = graph(molecule("CH3OH"))
    for model, is_isotropic in ((potential(None), True), (potential(), False)):
        forces = model(data)["forces"]
        torch.testing.assert_close(forces.sum(dim=0), torch.zeros(3), rtol=0, atol=1e-12)
        assert (torque(data, forces).norm().item() < 1e-12) is is_isotropic


def test_the_antisymmetric_stress_is_a_torque():
    data = graph(system(2, (True, True, True)))
    strict, relaxed = (potential(theta)(data)["stress"][0] for theta in (None, "0e+1o+2e"))
    torch.testing.assert_close(strict, strict.T, rtol=0, atol=1e-12)
    assert (relaxed - relaxed.T).abs().max() > 1e-6


def test_it_starts_as_the_strict_model():
    data = graph(molecule("CH3OH"))
    torch.manual_seed(1)
    relaxed = RelaxedPotential(["H", "C", "O"], CUTOFF, "0e+1o", irreps_hidden="4x0e+4x1o").eval()
    before = relaxed(data)
    R = o3.rand_matrix()
    after = relaxed(rotate(data, R))
    torch.testing.assert_close(after["energy"], before["energy"])
    torch.testing.assert_close(after["forces"], before["forces"] @ R.T)


def test_a_batch_is_its_structures():
    model = potential(charges=True)
    graphs = [
        graph(atoms) for atoms in (molecule("H2O"), system(3, (True,) * 3), Atoms("C"), system(1, (True, True, False)))
    ]
    batch, alone = model(Batch.from_data_list(graphs)), [model(g) for g in graphs]
    for name in ("energy", "energies", "forces", "charges"):
        torch.testing.assert_close(batch[name], torch.cat([out[name] for out in alone]))
    for n, out in enumerate(alone):
        for name in ("stress", "dipole"):
            if name in out:
                torch.testing.assert_close(batch[name][n], out[name][0])
            else:
                assert batch[name][n].isnan().all()


def test_structures_without_a_volume_leave_the_gradients_of_others_alone():
    model = potential().train()
    out = model(Batch.from_data_list([graph(system(3, (True,) * 3)), graph(molecule("H2O"))]))
    stress = out["stress"]
    stress[~stress.isnan()].square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_what_has_no_volume_has_no_stress():
    model = RelaxedPotential(["H", "O", "Cu"], irreps_hidden="4x0e", num_layers=1).eval()
    slab = fcc111("Cu", (1, 1, 2), vacuum=None)
    assert slab.cell.rank == 2
    assert "stress" not in model(pr.from_ase(slab))
    assert "stress" not in model(pr.from_ase(molecule("H2O", vacuum=5.0)))
    assert model(pr.from_ase(fcc111("Cu", (1, 1, 2), vacuum=5.0)))["stress"].shape == (1, 3, 3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_in_a_plane_have_no_volume(turned, dtype):
    """Their determinant is rounding, 1e-16 of what it is made of, and not zero."""
    model = RelaxedPotential(["H"], CUTOFF, irreps_hidden="4x0e", num_layers=1).to(dtype).eval()
    cell = torch.tensor([[3.0, 0.1, 0.3], [0.7, 3.2, 0.1], [3.7, 3.3, 0.4]])
    cell = (cell @ o3.rand_matrix() if turned else cell).to(dtype)
    edges = {"edge_index": torch.tensor([[0, 0], [0, 0]]), "edge_cell_shift": torch.tensor([[1, 0, 0], [-1, 0, 0]])}
    data = Data(z=torch.tensor([1]), pos=torch.zeros(1, 3, dtype=dtype), pbc=torch.tensor([[True, True, False]]))
    assert "stress" not in model(Data(**data.to_dict(), cell=cell[None], **edges))
    thin = torch.cat([cell[:2], cell[2:] + 0.01 * torch.linalg.cross(cell[:1], cell[1:2])])
    assert "stress" in model(Data(**data.to_dict(), cell=thin[None], **edges))


@pytest.mark.parametrize("pbc", [None, [[False] * 3]])
def test_a_molecule_from_radius_graph_has_a_dipole(pbc):
    atoms, model = molecule("H2O"), potential(charges=True)
    data = Data(z=torch.tensor(atoms.numbers), pos=torch.tensor(atoms.positions))
    if pbc is not None:
        data.pbc = torch.tensor(pbc)
    found = model(RadiusGraph(CUTOFF)(data))["dipole"]
    torch.testing.assert_close(found, model(graph(atoms))["dipole"])


def test_the_shift_is_added_for_each_atom():
    model, atoms = potential(energy_shift={"H": 1.0, "C": 2.0, "O": 3.0}), molecule("CH3OH")
    shifted = potential(energy_shift={"H": 1.5, "C": -98.0, "O": 3.0})
    shifted.load_state_dict(model.state_dict())
    before, after = model(graph(atoms)), shifted(graph(atoms))
    added = torch.tensor([{1: 0.5, 6: -100.0, 8: 0.0}[z] for z in atoms.numbers])
    torch.testing.assert_close(after["energies"] - before["energies"], added, rtol=0, atol=1e-12)
    torch.testing.assert_close(after["energy"] - before["energy"], added.sum()[None], rtol=0, atol=1e-12)
    assert torch.equal(after["forces"], before["forces"])


def test_the_scale_multiplies_what_is_learnt():
    options = {"energy_shift": -5.0, "repulsion": False}
    model, atoms = potential(energy_scale=1.0, **options), system(3, (True,) * 3)
    scaled = potential(energy_scale=3.0, **options)
    scaled.load_state_dict(model.state_dict())
    before, after = model(graph(atoms)), scaled(graph(atoms))
    torch.testing.assert_close(after["energies"] + 5, 3 * (before["energies"] + 5), rtol=1e-12, atol=1e-12)
    for name in ("forces", "stress"):
        torch.testing.assert_close(after[name], 3 * before[name], rtol=1e-12, atol=1e-12)


def test_an_atom_out_of_reach_is_alone():
    model = potential(energy_shift={"H": -13.6, "C": -1030.0, "O": 0.0})
    together = model(graph(Atoms("CH", [[0, 0, 0], [0, 0, 60.0]])))
    alone = [model(graph(Atoms(symbol))) for symbol in "CH"]
    assert torch.equal(together["energies"], torch.cat([out["energies"] for out in alone]))
    assert together["forces"].tolist() == [[0, 0, 0]] * 2


def test_the_repulsion_ends_within_the_cutoff():
    """K and K, whose radii add up to 4.06 Å, beyond the edges of 3.5 Å: nothing jumps there."""
    model = RelaxedPotential(["K"], CUTOFF, irreps_hidden="2x0e", repulsion=True).eval()
    distances = [CUTOFF - 1e-4, CUTOFF + 1e-4]
    below, above = (model(graph(Atoms("K2", [[0, 0, 0], [0, 0, d]]))) for d in distances)
    assert below["energy"].item() == pytest.approx(above["energy"].item(), abs=1e-9)
    torch.testing.assert_close(below["forces"], above["forces"], rtol=0, atol=1e-6)


def test_large_shifts_take_no_digits_in_float32():
    atoms = molecule("CH3OH")
    energies = []
    for shift in (0.0, -1e5):
        torch.manual_seed(0)
        model = RelaxedPotential(["H", "C", "O"], energy_shift=shift, irreps_hidden="4x0e+4x1o").float().eval()
        out = model(pr.from_ase(atoms, dtype=torch.float32))
        energies.append(out["energy"].item() - shift * len(atoms))
        assert (out["energy"].dtype, out["forces"].dtype) == (torch.float64, torch.float32)
    assert energies[0] == pytest.approx(energies[1], abs=1e-8)


def test_evaluation_holds_no_graph_and_training_does():
    model, data = potential(), graph(system(3, (True,) * 3))
    for value in model(data).values():
        assert not value.requires_grad
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            forces = model(data)["forces"]
        torch.testing.assert_close(forces, model(data)["forces"], rtol=0, atol=0)
    model.train()
    model(data)["forces"].square().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "readout" in name)


def test_second_derivatives_of_the_energy():
    model, data = potential(), graph(molecule("H2O"))
    data.pos.requires_grad_()
    forces = model(data)["forces"]
    hessian = torch.stack([-torch.autograd.grad(f, data.pos, retain_graph=True)[0].flatten() for f in forces.flatten()])
    torch.testing.assert_close(hessian, hessian.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(hessian.view(9, 3, 3).sum(dim=1), torch.zeros(9, 3), rtol=0, atol=1e-10)


def test_charges_add_up_and_make_the_dipole():
    model, atoms = potential(charges=True), molecule("CH3OH")
    for charge in (0.0, -1.0):
        atoms.info["charge"] = charge
        out = model(graph(atoms))
        assert out["charges"].sum().item() == pytest.approx(charge, abs=1e-12)
        moved = atoms.copy()
        moved.positions += [1.0, 2.0, 3.0]
        change = model(graph(moved))["dipole"] - out["dipole"]
        torch.testing.assert_close(change, charge * torch.tensor([[1.0, 2.0, 3.0]]), rtol=0, atol=1e-10)
    assert "dipole" not in model(graph(system(3, (True, False, False))))


def test_repulsion_keeps_atoms_apart():
    with_it, without = (RelaxedPotential([1], CUTOFF, irreps_hidden="2x0e", repulsion=r).eval() for r in (True, False))
    without.load_state_dict(with_it.state_dict())
    near, far = (Atoms("H2", [[0, 0, 0], [0, 0, d]]) for d in (0.05, 0.7))
    difference = [energy(with_it, atoms) - energy(without, atoms) for atoms in (near, far)]
    assert difference[0] > 100
    assert difference[1] == 0


def test_tables_of_the_radial_functions():
    model, data = potential(), graph(system(3, (True,) * 3))
    exact = model(data)
    tabulated = pr.nn.tabulate_(model)(data)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(tabulated[name], exact[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_files(dtype, tmp_path):
    model = potential(energy_shift={"H": -1.5, "C": -2.5, "O": -1e3}, energy_scale=0.7, charges=True).to(dtype)
    data = pr.from_ase(molecule("CH3OH"), CUTOFF, dtype)
    pr.save(model, tmp_path / "model.safetensors")
    loaded = pr.load(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    for (name, value), again in zip(model(data).items(), loaded(data).values(), strict=True):
        assert torch.equal(value, again), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"species": ["Xx"]}, "'Xx' is no element"),
        ({"species": [0]}, "0 is no element"),
        ({"species": []}, "'species' must be a list of elements"),
        ({"species": "H"}, "'species' must be a list of elements"),
        ({"species": ["H", 1]}, "'species' names an element twice"),
        ({"species": ["H", "C"], "energy_shift": {"H": 1.0}}, r"'energy_shift' must have a value for each of \[1, 6\]"),
        ({"species": ["H"], "energy_scale": {"H": 1.0, "C": 1.0}}, "'energy_scale' must have a value"),
        ({"species": ["H"], "energy_scale": "1 eV"}, "'energy_scale' must be a finite number, .*'1 eV'"),
        ({"species": ["H"], "energy_shift": {"H": float("nan")}}, "'energy_shift' must be a finite number"),
        ({"species": ["H"], "fields": ["electric_field"]}, "'fields' must be names and irreps such as"),
        ({"species": ["H"], "num_layers": 0}, r"'num_layers' must be an integer of at least 1 \(got 0\)"),
        ({"species": ["H"], "num_layers": 1.5}, "'num_layers' must be an integer"),
        ({"species": ["H"], "lmax": -1}, "'lmax' must be an integer of at least 0"),
        ({"species": ["H"], "num_basis": 0}, "'num_basis' must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelaxedPotential(**arguments)


def test_species_it_does_not_know_are_named():
    with pytest.raises(ValueError, match=r"atom 0 has atomic number 29, the model knows only \[1, 6, 8\]"):
        potential()(graph(bulk("Cu")))


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("irreps_theta", [None, "0e+1o", "0e+1o+2e"])
def test_every_parameter_has_a_gradient(irreps_theta, num_layers):
    """Training in several processes waits for the gradient of each."""
    model = RelaxedPotential(
        ["H", "O"], irreps_theta=irreps_theta, irreps_hidden="4x0e+4x1o", num_layers=num_layers
    ).train()
    out = model(pr.from_ase(molecule("H2O")))
    (out["energy"].sum() + out["forces"].square().sum()).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
