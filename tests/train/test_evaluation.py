"""Errors of a trained model: which labels they are of, and where those are read."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from trainings import config

import pyg_relaxed as pr
from pyg_relaxed.cli import main
from pyg_relaxed.models import RelaxedPotential, RelaxedTensor
from pyg_relaxed.train import evaluate, predict, read_labelled, train

# What Lightning and TensorBoard warn of on import and on small machines.
pytestmark = pytest.mark.filterwarnings("ignore:::lightning.*", "ignore::DeprecationWarning")
NAMES = {"energy": "dft_energy", "forces": "dft_forces"}


def test_errors_do_not_depend_on_the_order_of_structures(tmp_path):
    crystal, alone = bulk("Cu"), molecule("H2O")
    crystal.calc = SinglePointCalculator(crystal, energy=1.0, stress=np.ones(6))
    alone.calc = SinglePointCalculator(alone, energy=1.0)
    model = pr.models.RelaxedPotential(["H", "O", "Cu"], 4.0, irreps_hidden="4x0e", num_layers=1)
    for source in ([alone, crystal], [crystal, alone]):
        dataset = pr.datasets.AtomsDataset(source, 4.0, progress=False)
        found = evaluate(model, dataset, batch_size=1)
        assert set(found) == {"energy", "stress"}


@pytest.fixture(scope="module")
def renamed(structures, tmp_path_factory):
    """The same structures, whose labels have other names; beside them other energies, of other calculations."""
    found = ase.io.read(structures, ":")
    for atoms in found:
        atoms.info["dft_energy"], atoms.arrays["dft_forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=1000.0)
    path = tmp_path_factory.mktemp("renamed") / "renamed.extxyz"
    ase.io.write(path, found)
    return path


@pytest.fixture(scope="module")
def model(renamed, tmp_path_factory):
    chosen = config(
        renamed, data={"label_names": NAMES}, loss={"weights": {"energy": 1.0, "forces": 1.0}}, trainer={"epochs": 1}
    )
    return train(chosen, tmp_path_factory.mktemp("run"))


def test_labels_are_those_that_the_model_was_trained_on(model, renamed, structures, capsys):
    assert main(["eval", str(model), str(renamed)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["label", "energy", "forces"]
    assert [line.split("  ")[-1].strip() for line in lines[1:]] == ["dft_energy (24)", "dft_forces (24)"]
    assert float(lines[1].split()[3]) < 1e4  # meV: not of the other energies
    assert main(["eval", str(model), str(structures), "--label", "energy=energy", "--label", "forces=forces"]) == 0
    same = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in same[:3]] == [line.split()[:4] for line in lines]
    assert main(["eval", str(model), str(renamed), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["forces"]["read_from"] == {"dft_forces": 24}
    assert table["forces"]["unit"] == "meV/Å"


def test_labels_that_are_not_there_are_named_with_what_is(model, renamed, structures, capsys):
    assert main(["eval", str(model), str(structures)]) == 0
    out, err = capsys.readouterr()
    assert "energy" not in out.replace("dft_energy", "")
    assert "no structure has 'dft_forces', the training's 'forces': not compared" in err
    assert main(["eval", str(model), str(renamed), "--label", "energy"]) == 2
    assert main(["eval", str(model), str(renamed), "--label", "energy=pbe_energy"]) == 2
    err = capsys.readouterr().err
    assert "0 of 24 structures have 'energy' (as 'pbe_energy'). Labels found: forces (24)" in err
    assert "other numbers: dft_energy" in err
    assert "--label energy=NAME" in err
    assert main(["eval", str(model), str(renamed), "--label", "enrgy=dft_energy"]) == 2
    assert "did you mean 'energy'?" in capsys.readouterr().err
    assert main(["eval", str(model), str(renamed), "--label", "info_gap=gap"]) == 2
    assert "'info_gap' is read from 'gap' in atoms.info and nowhere else" in capsys.readouterr().err


def test_a_model_is_not_compared_with_itself(tmp_path, capsys):
    model = RelaxedPotential(["Cu"], 4.0, irreps_hidden="4x0e", num_layers=1, repulsion=True)
    path = tmp_path / "model.safetensors"
    pr.save(model, path)
    labelled = bulk("Cu", a=3.6)
    labelled.calc = SinglePointCalculator(labelled, energy=1.0)
    errors = []
    ase.io.write(tmp_path / "in.extxyz", labelled)
    predict(path, tmp_path / "in.extxyz", tmp_path / "out")
    for source in ("in.extxyz", "out"):
        assert main(["eval", str(path), str(tmp_path / source)]) == 0
        errors.append(capsys.readouterr().out)
    assert errors[0] == errors[1]
    assert errors[0].splitlines()[1].split()[:2] == ["energy", "1"]
    relaxed = tmp_path / "relaxed.extxyz"
    assert main(["relax", str(path), str(tmp_path / "in.extxyz"), "--out", str(relaxed)]) == 0
    predict(path, relaxed, tmp_path / "again")
    for source in (relaxed, tmp_path / "again"):
        for options in ([], ["--label", "energy=predicted_energy"]):
            assert main(["eval", str(path), str(source), *options]) == 2
            assert "0 of 1 structures have 'energy'" in capsys.readouterr().err


def test_a_student_is_compared_with_its_teacher_but_not_with_itself(tmp_path, capsys):
    teacher, student = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    names = {"energy": "predicted_energy"}
    torch.manual_seed(0)
    pr.save(RelaxedPotential(["Cu"], 4.0, num_layers=1), teacher)
    provenance = {"config": {"data": {"label_names": names}}}
    pr.save(RelaxedPotential(["Cu"], 4.0, num_layers=1), student, provenance=provenance)
    predict(teacher, [bulk("Cu")], tmp_path / "taught")
    assert main(["eval", str(student), str(tmp_path / "taught")]) == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.endswith("predicted_energy (1)")
    assert float(line.split()[2]) > 0
    predict(student, tmp_path / "taught", tmp_path / "own")
    assert main(["eval", str(student), str(tmp_path / "own")]) == 2
    assert main(["eval", str(teacher), str(tmp_path / "own"), "--label", "energy=predicted_energy"]) == 0


def test_structures_that_the_model_is_not_for_can_be_left_out(tmp_path, capsys):
    pr.save(RelaxedPotential(["Cu"], 4.0, num_layers=1), tmp_path / "model.safetensors")
    copper, gold = bulk("Cu"), bulk("Au")
    for atoms in (copper, gold):
        atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    ase.io.write(tmp_path / "in.extxyz", [gold, copper])
    arguments = ["eval", str(tmp_path / "model.safetensors"), str(tmp_path / "in.extxyz"), "--json"]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "frame 0: atom 0 has atomic number 79, the model knows only [29]" in err
    assert "--skip" in err
    with pytest.warns(UserWarning, match="1 of 2 entries are left out"):
        assert main([*arguments, "--skip"]) == 3
    assert json.loads(capsys.readouterr().out)["energy"]["count"] == 1


def test_labels_that_the_table_does_not_know_are_compared(tmp_path, capsys):
    model = RelaxedTensor(["Cu"], "i", "info_push", 4.0, num_layers=1, fields={"info_pull": "1o"})
    pr.save(model, tmp_path / "model.safetensors")
    copper = bulk("Cu")
    copper.info |= {"push": np.array([1.0, 2.0, 3.0]), "pull": np.zeros(3)}
    predict(tmp_path / "model.safetensors", [copper], tmp_path / "out")
    assert main(["eval", str(tmp_path / "model.safetensors"), str(tmp_path / "out")]) == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.split()[:3] == ["info_push", "3", "2"]  # without a field a cubic crystal has no vector
    assert line.endswith(" push (1)")
    del copper.info["push"]
    with pytest.raises(ValueError, match=r"no 'push' in atoms.info, where 'info_push' is read from.* it has pull"):
        read_labelled(tmp_path / "model.safetensors", [copper])
    dataset = pr.datasets.AtomsDataset([bulk("Cu")], 4.0, extras=True, progress=False)
    with pytest.raises(ValueError, match="'info_pull'"):
        evaluate(model, dataset)


def test_a_field_that_is_learned_need_not_come_with_a_structure(tmp_path):
    model = RelaxedPotential(["Cu"], 4.0, fields={"info_pull": "1o"}, learn_fields=["info_pull"], num_layers=1)
    pr.save(model, tmp_path / "model.safetensors")
    structures = [bulk("Cu"), bulk("Cu")]
    structures[1].info["pull"] = np.ones(3)
    for atoms in structures:
        atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    dataset = read_labelled(tmp_path / "model.safetensors", structures)
    assert evaluate(model, dataset)["energy"]["count"] == 2
    assert dataset[0].info_pull.tolist() == [[0.0, 0.0, 0.0]]


def test_a_data_set_without_any_label_of_the_model_is_refused(tmp_path):
    model = RelaxedTensor(["Cu"], "i", "info_push", 4.0, num_layers=1)
    dataset = pr.datasets.AtomsDataset([bulk("Cu")], 4.0, progress=False)
    with pytest.raises(ValueError, match=r"none of 1 structures has a label that the model gives \(info_push\)"):
        evaluate(model, dataset)
    with pytest.raises(ValueError, match="the data set is empty"):
        evaluate(model, dataset[:0])


def test_molecules_and_crystals_have_labels_of_their_own(tmp_path):
    """Each label is told with the keys that it was read from."""
    pr.save(RelaxedPotential(["H", "O", "Cu"], 4.0, num_layers=1), tmp_path / "model.safetensors")
    water, copper = molecule("H2O"), bulk("Cu")
    water.info["REF_energy"] = 1.0
    copper.calc = SinglePointCalculator(copper, energy=1.0, stress=np.ones(6))
    dataset = read_labelled(tmp_path / "model.safetensors", [water, copper])
    assert dataset.label_keys() == {"energy": {"REF_energy": 1, "atoms.calc": 1}, "stress": {"atoms.calc": 1}}
