"""Many structures in batches have the results that the calculator gives each of them."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from pymatgen.core import Lattice, Structure
from systems import system

from pyg_relaxed.adapters import open_source
from pyg_relaxed.calculators import RelaxedCalculator, evaluate
from pyg_relaxed.models import RelaxedPotential

CUTOFF = 4.0


@pytest.fixture(autouse=True)
def _float64(float64):
    pass


def potential(seed=0, **kwargs):
    torch.manual_seed(seed)
    return RelaxedPotential(["H", "C", "O", "Cu"], CUTOFF, irreps_hidden="4x0e+4x1o", num_layers=1, **kwargs)


def structures():
    pbc = [(False, False, True), (True, True, False), (True, True, True), (False, False, False)]
    return [molecule("CH3OH"), bulk("Cu"), Atoms("C"), *(system(n, which) for n, which in enumerate(pbc))]


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("limits", [{}, {"max_atoms": 1}, {"max_edges": 200}])
def test_results_are_those_of_the_calculator(models, limits):
    model = [potential(seed, charges=True) for seed in range(models)]
    calculator = RelaxedCalculator(model)
    found = list(evaluate(model, structures(), **limits))
    assert [one.index for one in found] == list(range(len(structures())))
    for one, atoms in zip(found, structures(), strict=True):
        atoms.calc = calculator
        atoms.get_potential_energy()
        assert one.atoms == atoms
        assert set(one.atoms.calc.results) == set(calculator.results)
        for name, value in calculator.results.items():
            np.testing.assert_allclose(one.atoms.calc.results[name], value, atol=1e-10, err_msg=name)


def test_files_and_structures_of_pymatgen(tmp_path):
    model = potential()
    ase.io.write(tmp_path / "all.extxyz", structures())
    copper = Structure(Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    energies = [one.atoms.get_potential_energy() for one in evaluate(model, structures())]
    read = [one.atoms.get_potential_energy() for one in evaluate(model, tmp_path / "all.extxyz")]
    np.testing.assert_allclose(read, energies, atol=1e-6)  # extxyz has eight decimals
    mixed = list(evaluate(model, [copper, bulk("Cu", "sc", a=3.6), str(tmp_path / "all.extxyz@1")]))
    assert mixed[0].atoms.get_potential_energy() == pytest.approx(mixed[1].atoms.get_potential_energy(), abs=1e-12)
    assert mixed[2].atoms.get_potential_energy() == pytest.approx(energies[1], abs=1e-6)


def bad():
    """Structures that cannot be computed, and why."""
    no_field, not_finite = molecule("H2O"), molecule("H2O")
    not_finite.positions[0, 0] = np.nan
    with_field = [Atoms("He"), Atoms(), Atoms("H2"), not_finite, "none.cif"]
    for atoms in with_field[:-1]:
        atoms.info["electric_field"] = [0.0, 0.0, 0.0]
    reasons = ["atomic number 2", "no atoms", "on top of each other", "atom 0 has position", "no file"]
    return [*zip(with_field, reasons, strict=True), (no_field, "needs 'electric_field'")]


def test_what_cannot_be_computed_is_told_in_its_place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    good = molecule("H2O")
    good.info["electric_field"] = [0.0, 0.1, 0.0]
    model = potential(fields={"electric_field": "1o"})
    given = [good]
    for structure, _ in bad():
        given += [structure, good]
    found = list(evaluate(model, given, on_error="report", max_atoms=7))
    energy = found[0].atoms.get_potential_energy()
    assert [one.index for one in found] == list(range(len(given)))
    for n, (_, reason) in enumerate(bad()):
        assert reason in found[2 * n + 1].error
        assert found[2 * n + 1].atoms.calc is None
        assert found[2 * n + 2].error == ""
        assert found[2 * n + 2].atoms.get_potential_energy() == pytest.approx(energy, abs=1e-12)
    for structure, reason in bad():
        with pytest.raises(ValueError, match=f"structure 1: .*{reason}"):
            list(evaluate(model, [good, structure]))


def test_what_is_not_finite_is_told_in_its_place():
    model = potential()
    model.scale[model.species == 6] = np.nan
    given = [molecule(name) for name in ("H2O", "CH3OH", "H2O")]
    found = list(evaluate(model, given, on_error="report"))
    assert found[1].error.startswith("not finite: energy, forces")
    assert found[0].atoms.get_potential_energy() == pytest.approx(found[2].atoms.get_potential_energy(), abs=1e-12)
    with pytest.raises(ValueError, match="structure 1: not finite"):
        list(evaluate(model, given))


def test_a_source_with_an_entry_that_cannot_be_read(tmp_path):
    path = tmp_path / "cut.extxyz"
    ase.io.write(path, [molecule("H2O")] * 3)
    path.write_text(path.read_text()[:-60])
    found = list(evaluate(potential(), open_source(path), on_error="report"))
    assert [bool(one.error) for one in found] == [False, False, True]


def test_bad_parameters_are_refused_at_once():
    for kwargs, message in (({"max_edges": 0}, "must be at least 1"), ({"on_error": ""}, "'on_error' must be")):
        with pytest.raises(ValueError, match=message):
            evaluate(potential(), [], **kwargs)


@pytest.mark.parametrize("order", [1, -1])
def test_a_learned_field_and_one_given_with_some_structures(order):
    field = {"fields": {"electric_field": "1o"}, "learn_fields": ["electric_field"]}
    torch.manual_seed(0)
    model = RelaxedPotential(["H", "O"], 4.0, irreps_hidden="4x0e+4x1o", num_layers=2, **field)
    model.learned["electric_field"].set_(torch.tensor([0.0, 0.0, 0.5]))
    structures = [molecule("H2O"), molecule("H2O")]
    structures[1].info["electric_field"] = [1.0, 0.0, 0.0]
    alone = [next(evaluate(model, [atoms])).atoms.get_potential_energy() for atoms in structures]
    assert alone[0] != alone[1]
    together = [found.atoms.get_potential_energy() for found in evaluate(model, structures[::order])]
    assert together[::order] == pytest.approx(alone, abs=1e-12)
