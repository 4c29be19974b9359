"""Fields that come with a structure: they act where theta does, and answers to them are derivatives of the energy."""

from itertools import product

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from hypothesis import given
from hypothesis import strategies as st
from systems import assert_close, differentiate, system
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.data import rotate
from pyg_relaxed.models import RelaxedE3NN, RelaxedPotential
from pyg_relaxed.o3.grouped import Groups

CUTOFF = 3.5


@pytest.fixture(autouse=True)
def _float64(float64):
    torch.manual_seed(0)


def ion(name="H2O", charge=1.0):
    atoms = molecule(name)
    atoms.info["charge"] = charge
    return atoms


def model_in(fields, irreps_theta=None, **kwargs):
    kwargs = {"irreps_hidden": "4x0e+4x1o+2x2e", "num_layers": 2} | kwargs
    model = RelaxedPotential(["H", "C", "O"], CUTOFF, irreps_theta, fields=fields, **kwargs)
    for theta in pr.thetas(model).values():
        if irreps_theta is not None:
            theta.set_(theta() + theta.free @ torch.randn(theta.irreps_theta.dim))
    return model.eval()


def in_field(atoms, **fields):
    atoms = atoms.copy()
    atoms.info.update(fields)
    return pr.from_ase(atoms, CUTOFF)


FIELD = [0.1, -0.2, 0.3]
WATER = molecule("H2O")


@pytest.mark.parametrize("irreps_theta", [None, "0e+2e"])
@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True)])
def test_a_structure_and_its_fields_turn_along(irreps_theta, improper, pbc):
    fields = {"electric_field": "1o", "magnetic_field": "1e"}
    model = model_in(fields, irreps_theta, irreps_hidden="4x0e+4x1o+4x1e+2x2e", charges=True)
    data = in_field(system(3, pbc), electric_field=FIELD, magnetic_field=[1.0, 2.0, -1.0])
    R = o3.rand_matrix() * (-1 if improper else 1)
    before, after = model(data), pr.rotate_(model, R)(rotate(data, R))
    torch.testing.assert_close(after["energy"], before["energy"], rtol=1e-10, atol=1e-10)
    for name in ("forces", "polarization" if all(pbc) else "dipole"):
        torch.testing.assert_close(after[name], before[name] @ R.T, rtol=1e-9, atol=1e-10)


def test_any_irreps_can_be_given():
    model = model_in({"info_strain": "0e+2e"})
    data = in_field(WATER)
    energies = set()
    for strain in (torch.zeros(1, 6), torch.randn(1, 6)):
        data.info_strain = strain
        energies.add(model(data)["energy"].item())
    assert len(energies) == 2


def test_without_a_field_it_is_strict():
    model, data = model_in({"electric_field": "1o"}), in_field(WATER, electric_field=[0.0, 0.0, 0.0])
    R = o3.rand_matrix()
    before, after = model(data), model(rotate(data, R))
    torch.testing.assert_close(after["forces"], before["forces"] @ R.T, rtol=0, atol=1e-12)
    data.electric_field = torch.tensor([FIELD])
    assert not torch.allclose(model(data)["forces"], before["forces"])


def test_nothing_is_learnt_of_theta_where_only_fields_are_asked_for():
    model = model_in({"electric_field": "1o"})
    assert {ir for theta in pr.thetas(model).values() for ir in theta.norms()} == {"0e", "1o"}
    optimizer = pr.optim.RelaxedAdam(model.train(), lr=0.1)
    model(in_field(WATER, electric_field=FIELD))["energy"].sum().backward()
    optimizer.step()
    assert all(theta.norms()["1o"] == 0 for theta in pr.thetas(model).values())


@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, True), (True, True, True)])
def test_answers_are_derivatives(pbc):
    model, atoms = model_in({"electric_field": "1o"}, "0e+2e"), system(2, pbc)
    out = model.response(in_field(atoms, electric_field=FIELD))
    volume = atoms.get_volume()

    def at(h, a, b=None, atom=None):
        """The energy, with one component of the field changed; the force on an atom with ``b``."""
        field = list(FIELD)
        field[a] += h
        found = model(in_field(atoms, electric_field=field))
        return found["energy"].item() if b is None else found["forces"][atom, b].item()

    moment = out["polarization"][0] * volume if any(pbc) else out["dipole"][0]
    for a in range(3):
        assert_close(moment[a], -differentiate(lambda h: at(h, a)), max(1.0, moment.abs().max()))  # noqa: B023
    for n, a, b in product(range(len(atoms)), range(3), range(3)):
        found = out["born_effective_charges"][n, a, b]
        assert_close(found, differentiate(lambda h: at(h, a, b, n)), max(1.0, found.abs()))  # noqa: B023

    def dipole(h, a, b):
        field = list(FIELD)
        field[b] += h
        found = model(in_field(atoms, electric_field=field))
        return (found["polarization"][0, a] * volume if any(pbc) else found["dipole"][0, a]).item()

    for a, b in product(range(3), repeat=2):
        found = out["polarizability"][0, a, b]
        assert_close(found, differentiate(lambda h: dipole(h, a, b)), max(1.0, found.abs()))  # noqa: B023


def test_a_batch_has_a_field_for_each_structure():
    model = model_in({"electric_field": "1o"}, "0e+1o")
    structures = [(WATER, FIELD), (system(3, (True,) * 3), [0.0, 0.0, 0.5]), (Atoms("C"), [1.0, 0.0, 0.0])]
    graphs = [in_field(atoms, electric_field=field) for atoms, field in structures]
    batch, alone = model.response(Batch.from_data_list(graphs)), [model.response(g) for g in graphs]
    for name in ("energy", "forces", "polarizability", "born_effective_charges"):
        torch.testing.assert_close(batch[name], torch.cat([out[name] for out in alone]))
    torch.testing.assert_close(batch["dipole"][[0, 2]], torch.cat([alone[n]["dipole"] for n in (0, 2)]))
    assert batch["dipole"][1].isnan().all()


def test_polarizability_is_symmetric_and_charges_obey_the_acoustic_sum_rule():
    model = model_in({"electric_field": "1o"})
    out = model.response(in_field(molecule("CH3OH"), electric_field=FIELD))
    torch.testing.assert_close(out["polarizability"], out["polarizability"].mT, rtol=0, atol=1e-11)
    torch.testing.assert_close(out["born_effective_charges"].sum(dim=0), torch.zeros(3, 3), rtol=0, atol=1e-11)


def test_files_and_round_trips(tmp_path):
    model = model_in({"electric_field": "1o", "magnetic_field": "1e"}, "0e+1o", share_theta=True)
    data = in_field(WATER, electric_field=FIELD, magnetic_field=[0.0, 1.0, 0.0])
    assert pr.to_ase(data).info["electric_field"].tolist() == FIELD
    pr.save(model, tmp_path / "model.safetensors")
    loaded = pr.load(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    assert torch.equal(loaded(data)["forces"], model(data)["forces"])


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match=r"the graph needs 'electric_field' \[1, 3\] in 1x1o \(got None\)"):
        model_in({"electric_field": "1o"})(in_field(WATER))
    with pytest.raises(ValueError, match="the model has no 'electric_field'"):
        model_in({"magnetic_field": "1e"}).response(in_field(WATER, magnetic_field=[0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"the graph needs 'field' \[B, 3\] in 1x1o"):
        RelaxedE3NN("1x0e", "0e", irreps_field="1o")(torch.ones(1, 1), torch.zeros(2, 0).long(), torch.zeros(0, 3))
    theta = pr.RelaxedWeights("0e+2e")
    with pytest.raises(ValueError, match="'irreps_theta' lacks 1o"):
        RelaxedE3NN("1x0e", "0e", irreps_theta=theta, share_theta=True, irreps_field="1o")


class TestIons:
    def test_forces_sum_to_charge_times_field(self):
        model = model_in({"electric_field": "1o"}, "0e+2e")
        out = model(Batch.from_data_list([in_field(ion(charge=q), electric_field=FIELD) for q in (0.0, 1.0, -2.0)]))
        total = out["forces"].view(3, 3, 3).sum(dim=1)
        torch.testing.assert_close(total, torch.tensor([[0.0], [1.0], [-2.0]]) * torch.tensor(FIELD))

    def test_energy_and_dipole_follow_the_origin(self):
        model, shift, field = model_in({"electric_field": "1o"}), torch.tensor([1.0, -2.0, 0.5]), torch.tensor(FIELD)
        atoms = ion(charge=-1.0)
        before = model.response(in_field(atoms, electric_field=FIELD))
        atoms.positions += shift.numpy()
        after = model.response(in_field(atoms, electric_field=FIELD))
        torch.testing.assert_close(after["energy"] - before["energy"], (shift @ field).view(1))  # -q E.t
        torch.testing.assert_close(after["dipole"] - before["dipole"], -shift.view(1, 3))
        torch.testing.assert_close(after["forces"], before["forces"])
        torch.testing.assert_close(after["born_effective_charges"].sum(dim=0), -torch.eye(3))

    def test_answers_are_derivatives(self):
        model, data = model_in({"electric_field": "1o"}, "0e+1o"), in_field(ion(), electric_field=FIELD)
        out = model(data)
        for a in range(3):

            def at(h, name):
                changed = data.clone()
                changed[name][0, a] += h  # noqa: B023
                return model(changed)["energy"].item()

            assert_close(out["dipole"][0, a], -differentiate(lambda h: at(h, "electric_field")), 1.0)
            assert_close(out["forces"][0, a], -differentiate(lambda h: at(h, "pos")), out["forces"].abs().max().item())

    def test_crystals_have_no_origin(self):
        model, data = model_in({"electric_field": "1o"}), in_field(system(2, (True,) * 3), electric_field=FIELD)
        neutral = model(data)
        data.charge = torch.ones(1)
        torch.testing.assert_close(model(data)["forces"], neutral["forces"], rtol=0, atol=0)


class TestLearnedFields:
    FIELDS = {"electric_field": "1o"}

    def test_it_is_a_field_that_every_structure_has(self):
        learned, given = (model_in(self.FIELDS, "0e+2e", learn_fields=learn) for learn in (["electric_field"], []))
        given.load_state_dict(learned.state_dict(), strict=False)
        field = torch.tensor(FIELD)
        learned.learned["electric_field"].set_(field)
        for more in (None, [0.3, 0.0, -0.1]):
            data = in_field(ion()) if more is None else in_field(ion(), electric_field=more)
            whole = in_field(ion(), electric_field=(field + torch.tensor(more or [0.0] * 3)).tolist())
            out, expected = learned.response(data), given.response(whole)
            assert out.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(out[name], value)

    def test_it_starts_at_zero_and_counts_as_theta(self):
        model, data = model_in(self.FIELDS, learn_fields=["electric_field"]), in_field(WATER)
        field = pr.thetas(model)["learned.electric_field"]
        assert field().tolist() == [0.0, 0.0, 0.0]
        R = -o3.rand_matrix()
        torch.testing.assert_close(model(rotate(data, R))["forces"], model(data)["forces"] @ R.T)
        field.set_(torch.tensor(FIELD))
        before = model(data)
        torch.testing.assert_close(pr.rotate_(model, R)(rotate(data, R))["forces"], before["forces"] @ R.T)
        torch.testing.assert_close(field(), R @ torch.tensor(FIELD))
        assert not torch.allclose(model(rotate(data, R.T))["forces"], before["forces"] @ R)
        assert pr.strict_(model).learned["electric_field"].norms() == {"1o": 0.0}

    def test_a_group_restricts_it(self):
        model = model_in(self.FIELDS, learn_fields=["electric_field"])
        model.learned["electric_field"].set_(torch.tensor(FIELD))
        torch.testing.assert_close(
            pr.project_(model, "4mm").learned["electric_field"](), torch.tensor([0.0, 0.0, FIELD[2]])
        )

    def test_labels_of_ions_tell_the_whole_vector(self):
        """Without any training of the rest: the total force is the charge times the field."""
        small = {"irreps_hidden": "2x0e+2x1o", "num_layers": 1}
        model = model_in(self.FIELDS, learn_fields=["electric_field"], **small).train()
        optimizer, field = pr.optim.RelaxedAdam(model), torch.tensor(FIELD)
        data = in_field(ion(charge=-1.0))
        for step in range(100):
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * (1 - step / 100)
            optimizer.zero_grad()
            (model(data)["forces"].sum(dim=0) + field).square().sum().backward()
            optimizer.step()
        torch.testing.assert_close(model.learned["electric_field"](), field, rtol=0, atol=1e-3)

    @pytest.mark.parametrize("penalty", [0.0, 1e9])
    def test_a_penalty_holds_it_at_zero(self, penalty):
        model = model_in(self.FIELDS, learn_fields=["electric_field"]).train()
        optimizer = pr.optim.RelaxedAdam(model, penalty={"1o": penalty})
        model(in_field(ion()))["forces"].square().sum().backward()
        optimizer.step()
        assert bool(model.learned["electric_field"]().any()) is (penalty == 0.0)

    def test_files_keep_it(self, tmp_path):
        model, data = model_in(self.FIELDS, "0e+1o", learn_fields=["electric_field"]), in_field(WATER)
        model.learned["electric_field"].set_(torch.tensor(FIELD))
        pr.save(model, tmp_path / "model.safetensors")
        loaded = pr.load(tmp_path / "model.safetensors")
        assert loaded.config["learn_fields"] == ["electric_field"]
        assert torch.equal(loaded(data)["forces"], model(data)["forces"])
        model.reset_parameters()
        assert not model.learned["electric_field"]().any()

    def test_it_must_be_a_field(self):
        with pytest.raises(ValueError, match=r"'learn_fields' names 'electric', which is not among 'fields'"):
            model_in(self.FIELDS, learn_fields=["electric"])


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(4, 6))
def test_rows_meet_the_matrix_of_their_graph(batch, num_graphs):
    batch = torch.tensor(batch, dtype=torch.long)
    x, matrices = torch.randn(len(batch), 2), torch.randn(num_graphs, 2, 3)
    expected = torch.einsum("nk,nkl->nl", x, matrices[batch])
    torch.testing.assert_close(Groups(batch, num_graphs).matmul(x, matrices), expected)
