"""What other codes got wrong about frames, labels and formats, one test for each; the issue is named."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Lattice, Structure
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

import pyg_relaxed as pr
from pyg_relaxed.adapters import read_structure
from pyg_relaxed.compat import o3
from pyg_relaxed.data import edge_vectors, from_voigt, rotate, standard_form
from pyg_relaxed.datasets import AtomsDataset
from pyg_relaxed.nn import RelaxedConv

R = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def triclinic(**results):
    """Return a cell that lies like none that a reader rebuilds."""
    atoms = Atoms("NaClO", positions=[[0.1, 0.2, 0.3], [2.0, 1.7, 1.4], [1.0, 2.9, 2.1]], pbc=True)
    atoms.set_cell(np.array([[4.0, 0.0, 0.0], [1.1, 4.3, 0.0], [-0.7, 0.9, 4.6]]) @ R.T)
    atoms.positions = atoms.positions @ R.T
    atoms.calc = SinglePointCalculator(atoms, **results) if results else None
    return atoms


class TestFrames:
    def test_six_numbers_of_a_cell_are_not_nine(self, tmp_path):
        """GEMDAT#417, #418: lengths and angles hold no orientation, and the positions were of other axes."""
        atoms = triclinic()
        for name, frame in (("a.cif", "standard"), ("a.extxyz", "cartesian"), ("POSCAR", "cartesian")):
            ase.io.write(tmp_path / name, atoms)
            data = pr.from_ase(read_structure(tmp_path / name), cutoff=4.0, dtype=torch.float64)
            kept = np.allclose(data.cell[0], atoms.cell.array, atol=1e-5)
            assert (data.frame, kept) == (frame, frame == "cartesian")
            scaled = np.linalg.solve(data.cell[0].numpy().T, data.pos.numpy().T).T[np.argsort(data.z.numpy())]
            expected = atoms.get_scaled_positions()[np.argsort(atoms.numbers)]
            np.testing.assert_allclose((scaled - expected + 0.5) % 1, 0.5, atol=1e-5)

    def test_a_cell_of_lengths_and_angles_keeps_the_axes_it_is_given(self):
        """GEMDAT#418: pymatgen puts c along z, ASE a along x; who mixes them gets other atoms."""
        structure = Structure(Lattice.from_parameters(4, 5, 6, 80, 95, 105), ["Na", "Cl"], [[0, 0, 0], [0.4, 0.5, 0.6]])
        data = pr.from_pymatgen(structure, cutoff=4.0, dtype=torch.float64)
        assert data.cell[0].tolist() == structure.lattice.matrix.tolist()
        assert data.pos.tolist() == structure.cart_coords.tolist()

    def test_tensors_turn_with_the_cell(self):
        """lammps#3907, pyiron#1016: LAMMPS wants the cell turned, and the stress stayed behind."""
        stress = np.array([[1.0, 0.2, -0.3], [0.2, 2.0, 0.4], [-0.3, 0.4, 3.0]])
        data = pr.from_ase(triclinic(stress=stress), cutoff=4.0, dtype=torch.float64)
        cell, turn = standard_form(data.cell[0].numpy())
        turned = rotate(data, torch.tensor(turn))
        np.testing.assert_allclose(turned.cell[0], cell, atol=1e-12)
        np.testing.assert_allclose(turned.stress[0], turn @ stress @ turn.T, atol=1e-12)

    def test_a_strict_layer_does_not_see_how_the_cell_lies(self):
        """fairchem#1695, #1772: energies in LAMMPS and ASE differed for triclinic cells."""
        data = pr.from_ase(triclinic(), cutoff=4.0, dtype=torch.float64)
        turned = rotate(data, torch.tensor(standard_form(data.cell[0].numpy())[1]))
        again = pr.from_ase(pr.to_ase(turned), cutoff=4.0, dtype=torch.float64)
        torch.manual_seed(0)
        layer = RelaxedConv("4x0e", "4x0e", o3.Irreps.spherical_harmonics(2), cutoff=4.0).double()
        x = torch.ones(3, 4, dtype=torch.float64)
        out, expected = (layer(x, d.edge_index, edge_vectors(d)) for d in (again, data))
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_rounding_of_a_turned_cell_loses_no_edge(self, seed):
        """lammps#2759: 1e-15 in the cell decided who is a neighbour."""
        atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
        expected = pr.from_ase(atoms, cutoff=5.0).num_edges
        torch.manual_seed(seed)
        turn = o3.rand_matrix().double().numpy()
        atoms.set_cell(atoms.cell.array @ turn.T, scale_atoms=True)
        assert pr.from_ase(atoms, cutoff=5.0).num_edges == expected


class TestStress:
    def test_the_sign_of_vasp_is_the_other_one(self):
        """nequip's conventions, mace#1110, QUIP#227, deepmd#338: kilobar, pressure positive."""
        kbar = [10.0, 20.0, 30.0, 1.0, 2.0, 3.0]  # xx yy zz xy yz zx
        stress = from_voigt(-np.array(kbar) / 1602.1766, "stress", "vasp")
        atoms = bulk("Cu")
        atoms.info["REF_stress"] = stress
        six = pr.to_ase(pr.from_ase(atoms, cutoff=3.0, dtype=torch.float64)).get_stress()
        np.testing.assert_allclose(-1602.1766 * six, [10, 20, 30, 2, 3, 1])

    def test_other_names_of_a_label_are_not_taken_for_it_silently(self):
        """mace#1518: 'virials' were there, and no stress was learnt."""
        atoms = bulk("Cu")
        atoms.info["virials"] = np.eye(3)
        with pytest.raises(ValueError, match="0 of 1 structures have 'stress'"):
            AtomsDataset([atoms], cutoff=3.0, in_memory=True, labels=["stress"])

    def test_stress_comes_back_as_six_numbers(self):
        """matgl#171: ASE's calculators give Voigt's numbers, and 3 x 3 broke what adds them."""
        stress = np.array([[1.0, 0.2, -0.3], [0.2, 2.0, 0.4], [-0.3, 0.4, 3.0]])
        atoms = pr.to_ase(pr.from_ase(triclinic(stress=stress), cutoff=3.0, dtype=torch.float64))
        assert atoms.calc.results["stress"].tolist() == [1.0, 2.0, 3.0, 0.4, -0.3, 0.2]

    def test_a_molecule_has_no_stress(self):
        """janus-core#66, mace#700, #1684, metatomic#139: nan, inf or zero in its place."""
        water = molecule("H2O")
        water.calc = SinglePointCalculator(water, energy=-14.2)
        data = pr.from_ase(water)
        assert "stress" not in data
        with pytest.raises(PropertyNotImplementedError):
            pr.to_ase(data).get_stress()

    def test_unknown_elements_are_refused(self):
        """Indexed, they were another species."""
        with pytest.raises(ValueError, match="atom 1"):
            pr.from_ase(Atoms(numbers=[1, 119], positions=[[0, 0, 0], [0, 0, 1.0]]))


class TestFormats:
    def test_labels_that_ase_has_moved_are_found(self, tmp_path):
        """mace#364, #412, #314, #1031: ASE >= 3.23 keeps energy and forces in a calculator, and the loss was 0.0000."""
        (tmp_path / "a.extxyz").write_text(
            "1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc=F\nHe 0 0 0 0.1 0.2 0.3\n"
        )
        (data,) = AtomsDataset(tmp_path / "a.extxyz", cutoff=3.0, in_memory=True, labels=["energy", "forces"])
        assert data.energy.tolist() == [-1.5]
        torch.testing.assert_close(data.forces, torch.tensor([[0.1, 0.2, 0.3]]))

    def test_no_label_at_all_is_an_error(self):
        """The same issues: nothing to learn, and nothing said."""
        with pytest.raises(ValueError, match=r"0 of 1 structures have 'energy'\. Labels found: none"):
            AtomsDataset([bulk("Cu")], cutoff=3.0, in_memory=True, labels=["energy"])

    @pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.traj", "a.db"])
    def test_files_by_any_name(self, name, tmp_path):
        """mace#415: .extxyz was refused; mace#106: .traj was wanted."""
        atoms = triclinic(energy=-2.0)
        ase.io.write(tmp_path / name, atoms)
        (data,) = AtomsDataset(tmp_path / name, cutoff=3.0, in_memory=True, labels=["energy"])
        assert data.energy.tolist() == [-2.0]

    def test_names_of_users_come_before_those_of_programs(self):
        """SevenNet#87, #89: labels under other keys than ASE's."""
        atoms = triclinic(energy=-2.0)
        atoms.info["REF_energy"] = -3.0
        atoms.info["my_energy"] = -4.0
        data = pr.from_ase(atoms)
        assert (data.energy.item(), data.info_my_energy.item()) == (-3.0, -4.0)

    def test_structures_without_a_label_are_nan(self):
        """nequip's FAQ: stress for some of the structures alone."""
        batch = next(
            iter(
                DataLoader(
                    AtomsDataset(
                        [triclinic(energy=1.0, stress=np.eye(3)), triclinic(energy=2.0)],
                        cutoff=3.0,
                        in_memory=True,
                        labels=["energy", "stress"],
                    ),
                    batch_size=2,
                )
            )
        )
        assert batch.stress.isnan().all(dim=(1, 2)).tolist() == [False, True]

    def test_vectors_of_a_structure_have_a_leading_one(self):
        """PyG#4099, #4510, HydraGNN#549: [3] and [3, 3] are put end to end; mace#710: a dipole that was not read."""
        water = molecule("H2O")
        water.calc = SinglePointCalculator(water, dipole=[0.0, 0.0, 0.4])
        batch = Batch.from_data_list([pr.from_ase(water), pr.from_ase(water)])
        assert (batch.cell.shape, batch.dipole.shape, batch.pbc.shape) == ((2, 3, 3), (2, 3), (2, 3))

    def test_pymatgen_properties_stay_and_nothing_is_changed(self):
        """pymatgen#2324, #2545, #2353, #2371, #3056, #4289: lost, doubled, or changed in place."""
        structure = Structure(
            4 * np.eye(3),
            ["Fe", "O"],
            [[0, 0, 0], [0.5, 0.5, 0.5]],
            site_properties={"magmom": [2.2, 0.1], "selective_dynamics": [[True, False, True], [True] * 3]},
            properties={"energy": -5.0, "source": "test"},
        )
        before = structure.as_dict()
        back = pr.to_pymatgen(pr.from_pymatgen(structure, cutoff=3.0, dtype=torch.float64))
        assert structure.as_dict() == before
        for name, values in structure.site_properties.items():
            assert np.array_equal(back.site_properties[name], values)
        assert {"energy": back.properties["energy"], "source": back.properties["source"]} == structure.properties

    def test_disorder_is_named(self):
        """moyo#110: a site of two elements was one of them."""
        structure = Structure(4 * np.eye(3), [{"Fe": 0.5, "Ni": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        with pytest.raises(ValueError, match="site 0"):
            pr.from_pymatgen(structure)
