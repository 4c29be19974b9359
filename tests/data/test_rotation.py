import numpy as np
import pytest
import torch
from ase import Atoms
from ase.cell import Cell
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.data import (
    KEYS,
    align_to,
    build_graph,
    edge_vectors,
    from_voigt,
    is_standard_cell,
    polar_decomposition,
    rotate,
    standard_form,
)

seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def random_cell(rng):
    while True:
        cell = rng.normal(size=(3, 3)) * 4
        if abs(np.linalg.det(cell)) > 0.1 * np.prod(np.linalg.norm(cell, axis=1)):
            return cell


def random_rotation(rng, improper=False):
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Q * np.sign(np.linalg.det(Q)) * (-1 if improper else 1)


def random_graph(rng):
    return build_graph(
        *(rng.integers(1, 90, 3), rng.normal(size=(3, 3)) * 2, random_cell(rng), [True, False, True]),
        cutoff=3.0,
        dtype=torch.float64,
        energy=1.5,
        forces=rng.normal(size=(3, 3)),
        stress=rng.normal(size=(3, 3)),
        dipole=rng.normal(size=3),
        polarizability=rng.normal(size=(3, 3)),
        piezoelectric_tensor=rng.normal(size=(3, 3, 3)),
        elastic_tensor=rng.normal(size=(3, 3, 3, 3)),
        born_effective_charges=rng.normal(size=(3, 3, 3)),
        magmoms=rng.normal(size=(3, 3)),
        info_field=rng.normal(size=3),
    )


@some
@given(seeds, st.booleans())
def test_what_turns_and_what_does_not(seed, improper):
    rng = np.random.default_rng(seed)
    data, R = random_graph(rng), torch.tensor(random_rotation(rng, improper))
    turned = rotate(data, R)
    for name in ("pos", "cell", "forces", "dipole"):
        torch.testing.assert_close(turned[name], data[name] @ R.T)
    for name in ("stress", "polarizability", "born_effective_charges"):
        torch.testing.assert_close(turned[name], torch.einsum("ai,bj,...ij->...ab", R, R, data[name]))
    piezo = torch.einsum("ai,bj,ck,nijk->nabc", R, R, R, data.piezoelectric_tensor)
    torch.testing.assert_close(turned.piezoelectric_tensor, piezo)
    elastic = torch.einsum("ai,bj,ck,dl,nijkl->nabcd", R, R, R, R, data.elastic_tensor)
    torch.testing.assert_close(turned.elastic_tensor, elastic)
    torch.testing.assert_close(turned.magmoms, data.magmoms @ R.T * (-1 if improper else 1))
    for name in ("z", "pbc", "edge_index", "edge_cell_shift", "energy", "info_field"):
        assert torch.equal(turned[name], data[name])
    torch.testing.assert_close(edge_vectors(turned), edge_vectors(data) @ R.T)
    back = rotate(turned, R.T)
    torch.testing.assert_close(back.stress, data.stress)
    assert set(turned.keys()) == set(data.keys())


def product_of_vectors(rank):
    irreps = o3.Irreps("0e")
    for _ in range(rank):
        irreps = o3.Irreps([(mul, ir) for mul, one in irreps for ir in one * o3.Irrep("1o")])
    return irreps.sort().irreps.simplify()


def test_irreps_and_rank_of_a_key_agree():
    for name, key in KEYS.items():
        if name == "cell":
            assert (key.irreps, key.rank) == ("3x1o", 1)  # three vectors
        elif not key.axial:  # which are numbers or vectors
            assert o3.Irreps(key.irreps).sort().irreps.simplify() == product_of_vectors(key.rank), name


def test_voigt_shapes():
    assert {key.name: key.voigt_shape for key in KEYS.values() if key.voigt} == {
        "stress": (6,),
        "piezoelectric_tensor": (3, 6),
        "elastic_tensor": (6, 6),
    }
    for key in KEYS.values():
        if key.voigt:
            assert from_voigt(np.zeros(key.voigt_shape), key.voigt, "ase").shape == key.shape[1:]


def test_collinear_moments_do_not_turn():
    data = build_graph([1] * 3, np.eye(3), np.zeros((3, 3)), [False] * 3, magmoms=[1.0, 2.0, 3.0])
    assert rotate(data, -np.eye(3)).magmoms.tolist() == [1, 2, 3]


def test_a_batch_turns_as_its_graphs():
    rng = np.random.default_rng(1)
    graphs, R = [random_graph(rng), random_graph(rng)], random_rotation(rng)
    turned = rotate(Batch.from_data_list(graphs), R)
    for graph, whole in zip(graphs, turned.to_data_list(), strict=True):
        for name in ("stress", "piezoelectric_tensor", "elastic_tensor"):
            torch.testing.assert_close(whole[name], rotate(graph, R)[name])


def test_a_model_and_its_theta_turn_along(float64):
    model = pr.models.RelaxedDistortion([56, 22, 8], "0e+1o+2e", "4x0e+4x1o", cutoff=4.5)
    for theta in pr.thetas(model).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    data = pr.from_ase(pr.structures.load("BaTiO3_P4mm"), cutoff=4.5, extras=False)
    R = o3.rand_matrix()
    out = model(data)["displacement"]
    assert (model(rotate(data, R))["displacement"] - out @ R.T).abs().max() > 1e-6
    torch.testing.assert_close(pr.rotate_(model, R)(rotate(data, R))["displacement"], out @ R.T)


@pytest.mark.parametrize("R", [2 * np.eye(3), np.ones((3, 3)), np.eye(2), np.full((3, 3), np.nan)])
def test_not_a_rotation(R):
    with pytest.raises(ValueError, match="'R' must"):
        rotate(random_graph(np.random.default_rng(0)), R)


def test_atoms_fixed_along_some_axes_do_not_turn():
    data = build_graph([1, 1], [[0.0, 0, 0], [1, 0, 0]], np.zeros((3, 3)), [False] * 3, fixed=np.eye(2, 3) > 0)
    with pytest.raises(ValueError, match=r"atom 0 is fixed along \[True, False, False\] only"):
        rotate(data, np.eye(3))


@some
@given(seeds, st.sampled_from(["ase", "pymatgen"]))
def test_standard_form(seed, convention):
    rng = np.random.default_rng(seed)
    cell = random_cell(rng)
    standard, R = standard_form(cell, convention)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0
    np.testing.assert_allclose(cell @ R.T, standard, atol=1e-12)
    first, second = (0, 1) if convention == "ase" else (2, 0)
    assert min(standard[first, first], standard[second, second]) > 0
    assert is_standard_cell(standard)
    if np.linalg.det(cell) < 0:
        return  # the libraries differ: ASE turns a to -x, pymatgen forgets the handedness
    if convention == "ase":
        np.testing.assert_allclose(standard, Cell(cell).standard_form()[0].array, atol=1e-9)
    else:
        lengths_and_angles = Lattice(cell).parameters
        np.testing.assert_allclose(standard, Lattice.from_parameters(*lengths_and_angles).matrix, atol=1e-9)
    np.testing.assert_allclose(standard_form(standard, convention)[1], np.eye(3), atol=1e-12)


def test_standard_form_of_what_has_none():
    with pytest.raises(ValueError, match="has no volume"):
        standard_form(np.ones((3, 3)))
    with pytest.raises(ValueError, match="'convention' must be one of"):
        standard_form(np.eye(3), "niggli")


@some
@given(seeds)
def test_alignment_undoes_a_rotation_and_keeps_the_strain(seed):
    rng = np.random.default_rng(seed)
    parent, R = random_cell(rng), random_rotation(rng)
    strain = 0.03 * rng.normal(size=(3, 3))
    U = np.eye(3) + strain + strain.T
    pos = rng.normal(size=(2, 3)) @ parent
    data = pr.from_ase(Atoms("NaCl", pos @ U @ R.T, cell=parent @ U @ R.T, pbc=True), 1.0, torch.float64)
    aligned, turn = align_to(data, parent)
    np.testing.assert_allclose(turn, R.T, atol=1e-9)
    np.testing.assert_allclose(aligned.cell[0], parent @ U, atol=1e-9)
    np.testing.assert_allclose(aligned.pos, pos @ U, atol=1e-8)
    np.testing.assert_allclose(polar_decomposition(R @ U)[1], U, atol=1e-9)


def test_alignment_of_what_cannot_be_aligned():
    data = build_graph([1], [[0.0, 0, 0]], np.eye(3), [True] * 3, cutoff=0.5)
    with pytest.raises(ValueError, match="opposite handedness"):
        align_to(data, np.diag([1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match="has no volume"):
        align_to(data, np.zeros((3, 3)))
    del data["cell"]
    with pytest.raises(ValueError, match="needs one cell"):
        align_to(data, np.eye(3))
