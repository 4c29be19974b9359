"""The calculator of metatomic and ours, on the same potential."""

import subprocess
import sys
import warnings
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from potentials import CUTOFF, graph, potential, structures
from systems import system

import pyg_relaxed as pr

if find_spec("metatomic") is None:
    pytest.skip("metatomic is not installed: pip install pyg-relaxed[metatomic]", allow_module_level=True)

from pyg_relaxed import cli
from pyg_relaxed.compat import scriptable_torch
from pyg_relaxed.deploy import export_metatomic

with scriptable_torch():
    from metatensor.torch import Labels
    from metatomic.torch import ModelEvaluationOptions, ModelOutput, load_atomistic_model, systems_to_torch
    from metatomic_ase import MetatomicCalculator
    from vesin.metatomic import neighbor_lists_for_model

PBC = list(product([False, True], repeat=3))
FIELD = {"electric_field": [0.1, -0.2, 0.3]}


@pytest.fixture(autouse=True)
def _float64(float64):
    pass


def calculator(model, folder, **kwargs):
    path = export_metatomic(model, folder / "model.pt", **kwargs)
    # Otherwise it divides by the volume of molecules, with a warning of numpy.
    return MetatomicCalculator(path, check_consistency=True, device="cpu", do_gradients_with_energy=False)


def assert_same(atoms, theirs, ours, has_stress):
    found, expected = atoms.copy(), atoms.copy()
    found.calc, expected.calc = theirs, ours
    assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(found.get_forces(), expected.get_forces(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.get_potential_energies(), expected.get_potential_energies(), rtol=0, atol=1e-10)
    if has_stress:
        np.testing.assert_allclose(found.get_stress(), expected.get_stress(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("irreps_theta", [None, "0e+1o+2e"])
def test_calculators_agree(irreps_theta, tmp_path):
    model = potential(irreps_theta)
    theirs, ours = calculator(model, tmp_path), pr.RelaxedCalculator(model)
    for atoms in structures():
        # That of metatomic gives a stress to crystals alone.
        assert_same(atoms, theirs, ours, has_stress=atoms.pbc.all())


@pytest.mark.parametrize("pbc", PBC)
def test_every_periodicity(pbc, tmp_path):
    model = potential()
    theirs, ours = calculator(model, tmp_path), pr.RelaxedCalculator(model)
    for seed in range(4):
        assert_same(system(seed, pbc), theirs, ours, has_stress=all(pbc))


def test_a_field_is_part_of_the_file(tmp_path):
    model = potential(fields={"electric_field": "1o"})
    atoms = molecule("CH3OH")
    atoms.info.update(FIELD)
    assert_same(atoms, calculator(model, tmp_path, fields=FIELD), pr.RelaxedCalculator(model), has_stress=False)
    with pytest.raises(ValueError, match=r"'fields' must give values of \['electric_field'\]"):
        export_metatomic(model, tmp_path / "model.pt")


def evaluate(path, structures, sample_kind, selected=None):
    """What an engine does: several systems at once, a part of their atoms."""
    model = load_atomistic_model(path)
    systems = systems_to_torch(structures, dtype=torch.float64)
    for finder in neighbor_lists_for_model("angstrom", model):
        finder.add_neighbor_list(systems)
    outputs = {"energy": ModelOutput(unit="eV", sample_kind=sample_kind)}
    selected = None if selected is None else Labels(["system", "atom"], torch.tensor(selected, dtype=torch.int32))
    options = ModelEvaluationOptions(length_unit="angstrom", outputs=outputs, selected_atoms=selected)
    return model(systems, options, check_consistency=True)["energy"].block().values.squeeze(1)


def test_several_systems_and_a_part_of_their_atoms(tmp_path):
    """Domains of a parallel run own some of the atoms that they are given."""
    model = potential()
    path = export_metatomic(model, tmp_path / "model.pt")
    several = [molecule("CH3OH"), bulk("C"), molecule("H2O")]
    expected = [model(graph(atoms))["energies"] for atoms in several]
    torch.testing.assert_close(evaluate(path, several, "atom"), torch.cat(expected), rtol=0, atol=1e-10)
    sums = torch.stack([energies.sum() for energies in expected])
    torch.testing.assert_close(evaluate(path, several, "system"), sums, rtol=0, atol=1e-10)
    selected = [[0, 1], [0, 4], [2, 0], [2, 2]]
    of_selected = torch.stack([expected[n][atom] for n, atom in selected])
    torch.testing.assert_close(evaluate(path, several, "atom", selected), of_selected, rtol=0, atol=1e-10)
    sums = torch.stack([of_selected[:2].sum(), torch.tensor(0.0), of_selected[2:].sum()])
    found = evaluate(path, several, "system", selected)
    torch.testing.assert_close(found, sums if len(found) == 3 else sums[[0, 2]], rtol=0, atol=1e-10)


ALONE = """
import sys
from ase.io import read
from metatomic_ase import MetatomicCalculator
atoms = read(sys.argv[1])
atoms.calc = MetatomicCalculator(sys.argv[2], device="cpu")
print(repr(float(atoms.get_potential_energy())))
assert not {"pyg_relaxed", "e3nn", "torch_geometric"} & set(sys.modules)
"""


def test_the_file_needs_nothing_of_ours(tmp_path):
    model, atoms = potential(), system(3, True)
    path = export_metatomic(model, tmp_path / "model.pt")
    atoms.write(tmp_path / "crystal.json")
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(tmp_path / "crystal.json"), str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert float(printed) == pytest.approx(model(graph(atoms))["energy"].item(), abs=1e-10)


def test_it_says_what_it_is(tmp_path):
    model = load_atomistic_model(export_metatomic(potential(), tmp_path / "model.pt"))
    capabilities = model.capabilities()
    assert capabilities.atomic_types == [1, 6, 8]
    assert capabilities.interaction_range == 2 * CUTOFF
    assert (capabilities.length_unit, capabilities.dtype) == ("angstrom", "float64")
    assert [options.cutoff for options in model.requested_neighbor_lists()] == [CUTOFF]
    assert "1o" in model.metadata().extra["theta"]
    assert not list(tmp_path.glob("*.tmp"))


def test_bad_names_are_explained(tmp_path):
    with pytest.raises(ValueError, match=r"a model of metatomic ends in .pt \(got 'model.pt2'\)"):
        export_metatomic(potential(), tmp_path / "model.pt2")
    with pytest.raises(FileNotFoundError, match="create it first"):
        export_metatomic(potential(), tmp_path / "none" / "model.pt")


def test_shifts_that_float32_would_round_are_told(tmp_path):
    """A seventh digit of 45,000 eV is some meV: what other programs are given, not what this package computes."""
    small, large = (potential(energy_shift=shift).float() for shift in (-500.0, -45000.0))
    export_metatomic(small, tmp_path / "small.pt")
    with warnings.catch_warnings(record=True) as found:  # those of torch.jit among them
        warnings.simplefilter("always")
        export_metatomic(large, tmp_path / "large.pt")
    assert any("float32, which rounds shifts of 45000 eV per atom by 3 meV" in str(one.message) for one in found)
    export_metatomic(large.double(), tmp_path / "exact.pt")


def test_the_command_line_writes_it(tmp_path, capsys):
    model = potential(fields={"electric_field": "1o"})
    pr.save(model, tmp_path / "model.safetensors")
    command = ["export", str(tmp_path / "model.safetensors"), "--to", "metatomic", "--out", str(tmp_path / "model.pt")]
    assert cli.main([*command, "--field", "electric_field=0.1,-0.2,0.3"]) == 0
    assert str(tmp_path / "model.pt") in capsys.readouterr().out
    atoms = molecule("H2O")
    atoms.info.update(FIELD)
    theirs = MetatomicCalculator(tmp_path / "model.pt", device="cpu", do_gradients_with_energy=False)
    assert_same(atoms, theirs, pr.RelaxedCalculator(model), has_stress=False)
    for more, message in (
        (["--field", "electric_field=up"], "--field electric_field=up: give numbers"),
        (["--kernels", "compiled"], "--kernels is for --to aoti"),
        ([], "'fields' must give values of ['electric_field']"),
    ):
        assert cli.main([*command, *more]) == 2
        assert message in capsys.readouterr().err
