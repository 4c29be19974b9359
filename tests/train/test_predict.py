"""Predictions of any number of structures: what is written, what goes on, what is told of failures."""

import json
import sys

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from trainings import config

import pyg_relaxed as pr
from pyg_relaxed.adapters import open_source
from pyg_relaxed.cli import main
from pyg_relaxed.models import RelaxedE3NN, RelaxedPotential, RelaxedTensor
from pyg_relaxed.train import evaluate, predict, train

# What Lightning and TensorBoard warn of on import and on small machines.
pytestmark = pytest.mark.filterwarnings("ignore:::lightning.*", "ignore::DeprecationWarning")


def test_predictions_go_on_and_are_shared(structures, tmp_path, capsys):
    path = train(config(structures, trainer={"epochs": 1}), tmp_path / "run")
    whole = tmp_path / "whole"
    assert predict(path, structures, whole, part_size=10) == (24, 0, 0)
    assert predict(path, structures, whole, part_size=10) == (0, 24, 0)
    (whole / "part-000001.extxyz").unlink()
    assert predict(path, structures, whole, part_size=10) == (10, 14, 0)
    shares = [predict(path, structures, tmp_path / "two", part_size=10, rank=n, num_processes=2) for n in (0, 1)]
    assert [share.written for share in shares] == [14, 10]
    model = pr.load(path)
    graphs = pr.datasets.AtomsDataset(structures, 4.0, dtype=torch.float64, progress=False)
    for folder in (whole, tmp_path / "two"):
        predicted = open_source(folder)
        for n, graph in enumerate(graphs):
            forces, energy = predicted[n].arrays["predicted_forces"], predicted[n].info["predicted_energy"]
            np.testing.assert_allclose(forces, model(graph)["forces"].numpy(force=True), rtol=0, atol=1e-7)
            assert energy == pytest.approx(model(graph)["energy"].item(), rel=0, abs=1e-6)
    with pytest.raises(ValueError, match="another model, structures or part_size"):
        predict(path, structures, whole, part_size=5)
    for name, value in (("batch_size", -1), ("part_size", 0), ("rank", 2), ("device", "no_such")):
        with pytest.raises(ValueError, match=name.partition("_")[0]):
            predict(path, structures, tmp_path / "bad", **{"num_processes": 2, name: value})
    assert not (tmp_path / "bad").exists()
    assert main(["predict", str(path), str(structures), "--out", str(whole), "--part-size", "10"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"0 structures written to {whole}, 24 were there already"


def test_structures_that_cannot_be_written_as_they_are(tmp_path):
    torch.manual_seed(0)
    model = pr.models.RelaxedPotential(["H", "O"], 4.0, irreps_hidden="4x0e", num_layers=1)
    pr.save(model, tmp_path / "model.safetensors")
    water = molecule("H2O")
    water.info |= {"REF_energy": 1.0, "energy": 2.0, "comment": ""}
    water.arrays |= {"REF_forces": np.ones((3, 3)), "forces": np.ones((3, 3))}
    assert predict(tmp_path / "model.safetensors", [water], tmp_path / "out").written == 1
    found = ase.io.read(tmp_path / "out" / "part-000000.extxyz")
    energy = model(pr.from_ase(molecule("H2O"), 4.0))["energy"].item()
    assert found.info["predicted_energy"] == pytest.approx(energy)
    assert found.info["REF_energy"] == 1.0


def test_what_is_no_number_is_not_predicted(tmp_path):
    model = pr.models.RelaxedPotential(["H", "O"], 4.0, irreps_hidden="4x0e", num_layers=1)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.inf)
    pr.save(model, tmp_path / "model.safetensors")
    assert predict(tmp_path / "model.safetensors", [molecule("H2O")], tmp_path / "out").written == 0
    assert "NaN or infinity" in (tmp_path / "out" / "part-000000.failed.txt").read_text()


def test_what_is_no_fault_of_a_structure_is_tried_again(structures, tmp_path, monkeypatch):
    model = pr.models.RelaxedPotential(["H", "O"], 4.0, irreps_hidden="4x0e", num_layers=1)
    pr.save(model, tmp_path / "model.safetensors")

    def gone(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["pyg_relaxed.train.predict"], "from_ase", gone)
        with pytest.raises(OSError, match="Input/output"):
            predict(tmp_path / "model.safetensors", [molecule("H2O")], tmp_path / "out")
    assert predict(tmp_path / "model.safetensors", [molecule("H2O")], tmp_path / "out").written == 1


def test_structures_with_and_without_a_charge_are_predicted_together(tmp_path):
    torch.manual_seed(0)
    model = RelaxedPotential(["H", "O"], 4.0, irreps_hidden="4x0e+4x1o", num_layers=1, charges=True)
    pr.save(model, tmp_path / "model.safetensors")
    structures = [molecule("H2O") for _ in range(2)]
    structures[0].info["charge"] = 1
    predict(tmp_path / "model.safetensors", structures, tmp_path / "out")
    predicted = ase.io.read(tmp_path / "out" / "part-000000.extxyz", ":")
    assert [atoms.arrays["predicted_charges"].sum() for atoms in predicted] == pytest.approx([1, 0], abs=1e-5)


def test_a_model_that_needs_features_is_refused(tmp_path):
    pr.save(RelaxedE3NN("1x0e", "1o"), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors holds a RelaxedE3NN, which needs features of the atoms"):
        predict(tmp_path / "model.safetensors", [molecule("H2O")], tmp_path / "out")


def test_an_empty_text_of_a_structure_does_not_swallow_what_is_predicted(structures, tmp_path):
    path = train(config(structures, trainer={"epochs": 1}), tmp_path / "run")
    atoms = ase.io.read(structures, 0)
    atoms.info["comment"] = ""
    predict(path, [atoms], tmp_path / "predicted")
    (found,) = ase.io.read(tmp_path / "predicted" / "part-000000.extxyz", ":")
    energy = pr.load(path)(pr.from_ase(atoms, 4.0, torch.float64))["energy"].item()
    assert found.info["predicted_energy"] == pytest.approx(energy, abs=1e-6)


def test_an_element_the_model_does_not_know_is_named_by_its_structure(tmp_path, capsys):
    pr.save(RelaxedPotential(["H"], 3.0, num_layers=1), tmp_path / "model.safetensors")
    frames = [molecule("H2"), molecule("H2"), molecule("H2"), Atoms("HeH", [[0, 0, 0], [0, 0, 1]])]
    ase.io.write(tmp_path / "some.extxyz", frames)
    dataset = pr.datasets.AtomsDataset(tmp_path / "some.extxyz", 3.0, progress=False)
    with pytest.raises(ValueError, match="frame 3: atom 0 has atomic number 2"):
        evaluate(pr.load(tmp_path / "model.safetensors"), dataset)
    assert predict(tmp_path / "model.safetensors", tmp_path / "some.extxyz", tmp_path / "out").written == 3
    (failed,) = json.loads((tmp_path / "out" / "part-000000.failed.txt").read_text()).items()
    assert "frame 3" in failed[0]
    assert "atomic number 2" in failed[1]
    arguments = ["predict", str(tmp_path / "model.safetensors"), str(tmp_path / "some.extxyz"), "--out"]
    for written, kept in ((3, ""), (0, ", 3 were there already")):
        assert main([*arguments, str(tmp_path / "again")]) == 3
        out = capsys.readouterr().out
        assert out.startswith(f"{written} structures written to {tmp_path / 'again'}{kept}, 1 failed: see")


def test_structures_keep_what_they_came_with(tmp_path):
    """Positions and numbers as they were, whatever the dtype of the model; labels beside what is predicted."""
    model = RelaxedPotential(["Cu"], 4.0, irreps_hidden="4x0e", num_layers=1)
    pr.save(model, tmp_path / "model.safetensors")
    copper = bulk("Cu", a=3.6123456789)
    copper.info |= {"dft_energy": -45000.12345678, "REF_energy": -1.0, "energy": -2.0, "name": "one"}
    copper.arrays |= {"site_energy": np.array([1.23456789012]), "REF_forces": np.ones((1, 3))}
    copper.calc = SinglePointCalculator(copper, free_energy=-3.25, forces=[[0.0, 0.0, 0.5]], stress=np.arange(6.0))
    given = copper.copy()
    predict(tmp_path / "model.safetensors", [copper], tmp_path / "out")
    assert copper == given
    assert copper.info == given.info
    (found,) = ase.io.read(tmp_path / "out" / "part-000000.extxyz", ":")
    np.testing.assert_allclose(found.cell, copper.cell, rtol=0, atol=1e-14)
    assert {name: found.info[name] for name in ("dft_energy", "REF_energy", "name")} == {
        **{"dft_energy": -45000.12345678, "REF_energy": -1.0},
        "name": "one",
    }
    assert found.arrays["site_energy"] == pytest.approx([1.23456789012], abs=1e-8)
    assert found.arrays["REF_forces"].tolist() == [[1.0, 1.0, 1.0]]
    assert found.calc.results["free_energy"] == -3.25
    assert found.get_potential_energy() == -2.0
    assert found.get_forces().tolist() == [[0.0, 0.0, 0.5]]
    assert found.get_stress().tolist() == list(range(6))
    out = model(pr.from_ase(copper, 4.0))
    assert found.info["predicted_energy"] == pytest.approx(out["energy"].item(), abs=1e-6)
    assert found.arrays["predicted_forces"].shape == (1, 3)
    labels = pr.from_ase(found, 4.0)
    assert (labels.energy.item(), labels.forces[0, 0].item()) == (-1.0, 1.0)


def test_predictions_can_be_labels(tmp_path):
    """All components come back in their order, those of a stress with a torque too."""
    torch.manual_seed(0)
    model = RelaxedPotential(["Cu", "Au"], 4.0, "0e+1o+2e", irreps_hidden="4x0e+4x1o", num_layers=1).double()
    for theta in pr.thetas(model).values():
        theta.set_(theta() + torch.randn(theta.irreps_theta.dim))
    pr.save(model, tmp_path / "model.safetensors")
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[0] = "Au"
    alloy.rattle(0.1, seed=0)
    predict(tmp_path / "model.safetensors", [alloy], tmp_path / "out")
    (found,) = ase.io.read(tmp_path / "out" / "part-000000.extxyz", ":")
    names = {name: f"predicted_{name}" for name in ("energy", "energies", "forces", "stress")}
    labels, out = (
        pr.from_ase(found, 4.0, torch.float64, label_names=names),
        model(pr.from_ase(alloy, 4.0, torch.float64)),
    )
    for name in names:
        torch.testing.assert_close(labels[name], out[name], rtol=0, atol=1e-7, msg=lambda m: f"{name}: {m}")  # noqa: B023
    assert (labels.stress - labels.stress.mT).abs().max() > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [("ij=ji", "polarizability"), ("ijk=ikj", "piezoelectric_tensor"), ("ijkl=jikl=klij", "elastic_tensor")],
)
def test_tensors_can_be_labels(arguments, tmp_path):
    torch.manual_seed(0)
    model = RelaxedTensor(["Cu", "Au"], *arguments, cutoff=4.0, num_layers=1, irreps_theta="0e+1o").double()
    for theta in pr.thetas(model).values():
        theta.set_(theta() + torch.randn(theta.irreps_theta.dim))
    pr.save(model, tmp_path / "model.safetensors")
    cell = bulk("Cu")
    predict(tmp_path / "model.safetensors", [cell], tmp_path / "out")
    (found,) = ase.io.read(tmp_path / "out" / "part-000000.extxyz", ":")
    name = arguments[1]
    label = pr.from_ase(found, 4.0, torch.float64, label_names={name: f"predicted_{name}"})[name]
    expected = model(pr.from_ase(cell, 4.0, torch.float64))[name]
    torch.testing.assert_close(label, expected, rtol=0, atol=1e-7)
    assert expected.abs().max() > 1e-3


def test_tensors_of_atoms_can_be_labels(tmp_path):
    torch.manual_seed(0)
    model = RelaxedTensor(["Cu"], "ij", "born_effective_charges", cutoff=4.0, num_layers=1, per_atom=True).double()
    pr.save(model, tmp_path / "model.safetensors")
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.1, seed=0)
    copper.calc = SinglePointCalculator(copper, born_effective_charges=np.arange(36.0).reshape(4, 3, 3))
    predict(tmp_path / "model.safetensors", [copper], tmp_path / "out")
    (found,) = ase.io.read(tmp_path / "out" / "part-000000.extxyz", ":")
    name = "born_effective_charges"
    assert pr.from_ase(found, 4.0)[name].flatten().tolist() == list(range(36))
    label = pr.from_ase(found, 4.0, torch.float64, label_names={name: f"predicted_{name}"})[name]
    torch.testing.assert_close(label, model(pr.from_ase(copper, 4.0, torch.float64))[name], rtol=0, atol=1e-7)


def test_what_another_model_has_predicted_is_replaced(tmp_path):
    """Nothing is left of it that would seem to be of the other."""
    torch.manual_seed(0)
    models = [RelaxedPotential(["Cu"], 4.0, num_layers=1), RelaxedTensor(["Cu"], "i", "info_push", 4.0, num_layers=1)]
    for n, model in enumerate(models):
        pr.save(model, tmp_path / f"{n}.safetensors")
    copper = bulk("Cu")
    copper.info["predicted_class"] = "metal"  # of nobody
    predict(tmp_path / "0.safetensors", [copper], tmp_path / "first")
    predict(tmp_path / "1.safetensors", tmp_path / "first", tmp_path / "second")
    first, second = (ase.io.read(tmp_path / name / "part-000000.extxyz") for name in ("first", "second"))
    assert first.info["predicted_by"] != second.info["predicted_by"]
    assert {"predicted_energy", "predicted_stress", "predicted_class"} < set(first.info)
    assert set(second.info) == {"predicted_push", "predicted_by", "predicted_class"}
    assert second.info["predicted_by"].split()[1:] == ["push"]
    assert "predicted_forces" not in second.arrays


@pytest.mark.parametrize("key", ["predicted_by", "predicted_push", "predicted_energy"])
def test_what_others_have_predicted_is_not_lost(key, tmp_path):
    pr.save(RelaxedTensor(["Cu"], "i", "info_push", 4.0, num_layers=1), tmp_path / "model.safetensors")
    copper = bulk("Cu")
    copper.info[key] = "another program"
    counts = predict(tmp_path / "model.safetensors", [copper, bulk("Cu")], tmp_path / "out")
    if key == "predicted_energy":  # this model gives none
        assert counts == (2, 0, 0)
        assert ase.io.read(tmp_path / "out" / "part-000000.extxyz", 0).info[key] == "another program"
    else:
        assert counts == (1, 0, 1)
        assert f"has a '{key}' that is not of pyg-relaxed" in (tmp_path / "out" / "part-000000.failed.txt").read_text()


def test_what_cannot_be_written_is_named(tmp_path):
    pr.save(RelaxedTensor(["Cu"], "i", "info_push", 4.0, num_layers=1), tmp_path / "model.safetensors")
    copper = bulk("Cu")
    copper.arrays |= {"a": np.ones((1, 2)), "a1": np.ones(1)}
    assert predict(tmp_path / "model.safetensors", [bulk("Cu"), copper], tmp_path / "out") == (1, 0, 1)
    (reason,) = json.loads((tmp_path / "out" / "part-000000.failed.txt").read_text()).values()
    assert reason.startswith("cannot be written as extxyz: ")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file: predictions go into a folder"):
        predict(tmp_path / "model.safetensors", [copper], tmp_path / "file")


def test_properties_that_the_table_does_not_know_are_inputs_and_labels(tmp_path):
    torch.manual_seed(0)
    model = RelaxedTensor(["Cu"], "i", "info_push", 4.0, num_layers=1, fields={"info_pull": "1o"})
    pr.save(model, tmp_path / "model.safetensors")
    copper = bulk("Cu")
    copper.info |= {"push": np.array([1.0, 2.0, 3.0]), "pull": np.array([0.5, 0.0, 0.0])}
    assert predict(tmp_path / "model.safetensors", [copper, bulk("Cu")], tmp_path / "out") == (1, 0, 1)
    (found,) = ase.io.read(tmp_path / "out" / "part-000000.extxyz", ":")
    assert found.info["push"].tolist() == [1.0, 2.0, 3.0]
    assert found.info["pull"].tolist() == [0.5, 0.0, 0.0]
    assert found.info["predicted_push"][0] != 0
