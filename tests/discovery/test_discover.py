"""The main job: what is said about BaTiO3 must be what crystallography says."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal as from_space_group
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.spatial.transform import Rotation

import pyg_relaxed as pr
from pyg_relaxed import structures
from pyg_relaxed.discovery import Parent
from pyg_relaxed.discovery.diagnosis import group_kept

STEPS = 120  # enough for these; users run 300
# phase: point group, number of domains, canonical direction of the polar vector
PHASES = {"P4mm": ("4mm", 6, [0, 0, 1]), "Amm2": ("mm2", 12, [0, 1, 1]), "R3m": ("3m", 8, [1, 1, 1])}


def crystal(phase, noise=0.0):
    atoms = structures.load(f"BaTiO3_{phase}")
    atoms.positions += np.random.default_rng(1).uniform(-noise, noise, atoms.positions.shape)
    return atoms


@functools.cache
def found(phase, noise=0.0, seed=0, num_seeds=1, steps=STEPS):
    """Findings are shared by the tests that look at them."""
    return pr.discover(crystal("Pm-3m"), crystal(phase, noise), seed=seed, num_seeds=num_seeds, steps=steps)


def check_ferroelectric(result, phase):
    group, n_domains, direction = PHASES[phase]
    assert result.residual_group.hermann_mauguin == group
    assert result.child_point_group.hermann_mauguin == group
    assert result.agrees
    assert result.n_domains == len(result.domains) == n_domains
    assert result.residual.kept < result.symprec < 10 * result.symprec < result.residual.broken
    (primary,) = result.primary
    assert (primary.kpoint, primary.irrep, primary.label) == ("GM", "1o", "T1u")
    angle = np.degrees(np.arccos(np.clip(primary.direction @ direction / np.linalg.norm(direction), -1, 1)))
    assert angle < 0.01  # the residual group fixes it, whatever the noise
    assert result.strict_loss > 100 * result.relaxed_loss
    assert not result.warnings()


@pytest.mark.parametrize("phase", PHASES)
def test_what_a_ferroelectric_breaks(phase):
    check_ferroelectric(found(phase), phase)


@pytest.mark.parametrize("phase", ["P4mm", "R3m"])
def test_noise_on_the_atoms_changes_nothing(phase):
    check_ferroelectric(found(phase, noise=0.002), phase)


@pytest.mark.parametrize(("phase", "published"), [("P4mm", 0.136), ("Amm2", 0.165), ("R3m", 0.173)])
def test_the_amplitude_is_that_of_the_symmetry_mode(phase, published):
    """GM4- of these structures by mode decomposition (AMPLIMODES convention), which no network has seen."""
    assert found(phase).primary[0].amplitude == pytest.approx(published, abs=0.003)


def germanium_telluride():
    parent = bulk("GeTe", "rocksalt", a=6.0)
    child = parent.copy()
    child.positions[0] += 0.12
    child.set_cell(child.cell.array @ (np.eye(3) + 0.012 * (1 - np.eye(3))), scale_atoms=True)
    return parent, child


def indium():
    parent = bulk("In", "fcc", a=4.7, cubic=True)
    child = parent.copy()
    child.set_cell(np.diag([4.6, 4.6, 4.95]), scale_atoms=True)
    return parent, child


def zinc_oxide():
    cell = [3.25, 3.25, 5.2, 90, 90, 120]
    parent = from_space_group(["Zn", "O"], [(1 / 3, 2 / 3, 1 / 4), (1 / 3, 2 / 3, 3 / 4)], spacegroup=194, cellpar=cell)
    child = from_space_group(["Zn", "O"], [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.382)], spacegroup=186, cellpar=cell)
    return parent, child


def lithium_niobate():
    cell = [5.15, 5.15, 13.86, 90, 90, 120]
    parent = from_space_group(
        ["Li", "Nb", "O"], [(0, 0, 0.25), (0, 0, 0), (0.06, 1 / 3, 1 / 12)], spacegroup=167, cellpar=cell
    )
    places = [(0, 0, 0.279), (0, 0, 0), (0.0474, 0.3433, 0.0634)]
    return parent, from_space_group(["Li", "Nb", "O"], places, spacegroup=161, cellpar=cell)


@pytest.mark.parametrize(
    ("make", "group", "n_domains", "label", "words"),
    [
        (indium, "4/mmm", 3, "Eg", "strain-like tensor, longer along [001]"),
        (germanium_telluride, "3m", 8, "T1u", "polar vector along [111]"),
        pytest.param(zinc_oxide, "6mm", 2, "A2u", "polar vector along [001]", marks=pytest.mark.slow),
        pytest.param(lithium_niobate, "3m", 2, "A2u", "polar vector along [001]", marks=pytest.mark.slow),
    ],
)
def test_other_crystals(make, group, n_domains, label, words):
    """A ferroelastic, and ferroelectrics with face-centred, hexagonal and rhombohedral parents."""
    result = pr.discover(*make(), num_seeds=1, steps=200)
    assert result.residual_group.hermann_mauguin == group
    assert result.agrees
    assert result.n_domains == n_domains
    (primary,) = result.primary
    assert (primary.label, primary.words) == (label, words)
    assert not result.warnings()


@pytest.mark.parametrize("size", [0.006, 0.008, 0.1])
def test_a_small_strain_keeps_the_group_of_a_large_one(size):
    """Between the two sizes that a shear's operations change it by, symprec alone would leave no group."""
    parent = Parent.from_atoms(crystal("Pm-3m"))
    shear = np.zeros((3, 3))
    shear[1, 2] = shear[2, 1] = 0.5 * size / parent.edge
    change = parent.changes(parent.vector(np.zeros((5, 3)), shear))
    assert group_kept(parent.group.operations, change, 0.01).hermann_mauguin == ("mmm" if size > 0.006 else "m-3m")


def test_domains_are_the_images_of_one_vector():
    words = found("P4mm").domain_words()
    assert sorted(words) == sorted(
        f"polar vector along {axis}" for axis in ("[001]", "[00-1]", "[010]", "[0-10]", "[100]", "[-100]")
    )


@pytest.mark.parametrize("phase", PHASES)
def test_the_strict_network_reaches_its_bound_and_no_further(phase):
    """A network that keeps the parent's symmetry can do no better than the mean over the domains."""
    result = found(phase)
    assert result.strict_loss == pytest.approx(result.strict_bound, rel=1e-3)


@pytest.mark.parametrize(("scale", "noise"), [(1.0, 0.0), (1.01, 0.0), (1.0, 0.002)])
def test_nothing_is_broken_where_nothing_is(scale, noise):
    child = crystal("Pm-3m", noise)
    child.set_cell(child.cell.array * scale, scale_atoms=True)
    result = pr.discover(crystal("Pm-3m"), child, num_seeds=1, steps=STEPS)
    assert result.residual_group.hermann_mauguin == "m-3m"
    assert not result.is_broken
    assert result.n_domains == 1
    assert result.order_parameters == []
    assert any("No symmetry is broken" in sentence for sentence in result.sentences())
    if noise == 0:
        for theta in pr.thetas(result.model).values():
            assert all(norm == 0 for irrep, norm in theta.norms().items() if irrep != "0e")


def test_axes_origin_order_setting_and_class_of_the_child_do_not_matter():
    rng = np.random.default_rng(0)
    child = crystal("R3m").repeat((1, 2, 1))[rng.permutation(10)]
    R = Rotation.random(random_state=0).as_matrix()
    child.set_cell(child.cell.array @ R.T)
    child.positions = child.positions @ R.T + rng.normal(size=3)
    parent = AseAtomsAdaptor.get_structure(crystal("Pm-3m"))
    result = pr.discover(parent, AseAtomsAdaptor.get_structure(child), num_seeds=1, steps=STEPS)
    check_ferroelectric(result, "R3m")
    report, expected = result.to_dict(), found("R3m").to_dict()
    assert report["parent"] == expected["parent"]
    assert report["child"]["space_group"] == expected["child"]["space_group"]
    for key in ("displacement_angstrom", "strain"):
        np.testing.assert_allclose(report["distortion"][key], expected["distortion"][key], atol=1e-5)
    for group in (result.residual_group, result.child_point_group):
        assert group.is_subgroup_of(found("R3m").residual_group, tol=1e-4)


def test_a_noisy_parent_is_taken_for_what_it_is():
    """Below symprec it is symmetric, and so is what the strict network sees."""
    parent = crystal("Pm-3m")
    parent.positions += np.random.default_rng(0).normal(size=(5, 3)) * 1e-3
    result = pr.discover(parent, crystal("P4mm"), num_seeds=1, steps=STEPS)
    check_ferroelectric(result, "P4mm")
    assert result.strict_loss == pytest.approx(result.strict_bound, rel=1e-3)


def test_a_distortion_as_small_as_symprec_has_an_order_parameter():
    child = crystal("Pm-3m")
    child.positions[1, 2] += 0.0108
    result = pr.discover(crystal("Pm-3m"), child, num_seeds=1, steps=STEPS)
    assert result.headline() == "m-3m to 4mm: polar vector along [001], one of 6 domains"
    assert len(result.to_dict()["domains"]) == 6


def calcium_oxide(angle):
    """A crystal of point group 4/m, whose E irreps are complex, and a shift within the plane."""
    parent = from_space_group(["Ca", "O"], [(0, 0, 0), (0.2, 0.3, 0)], spacegroup=83, cellpar=[5, 5, 4, 90, 90, 90])
    child = parent.copy()
    child.positions[0] += 0.1 * np.array([np.cos(angle), np.sin(angle), 0])
    return parent, child


def test_the_direction_within_a_complex_irrep_is_that_of_the_displacement():
    """One in eight of the plane is canonical; the rest are its images."""
    angle = np.radians(20)
    result = pr.discover(*calcium_oxide(angle), num_seeds=1, steps=60)
    cosines = [R @ result.primary[0].direction @ [np.cos(angle), np.sin(angle), 0] for R in result.domains]
    assert np.degrees(np.arccos(max(cosines))) < 1.0


def test_a_shear_is_no_axial_vector():
    """In 4/mmm both are Eg; what moved is the cell."""
    parent = from_space_group(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90]
    )
    child = parent.copy()
    child.set_cell(child.cell.array @ [[1, 0, 0.02], [0, 1, 0], [0.02, 0, 1]], scale_atoms=True)
    result = pr.discover(parent, child, num_seeds=1, steps=60)
    assert result.primary[0].label == "Eg"
    assert result.primary[0].words.startswith("strain-like tensor")


def test_the_parents_axes_are_free():
    """Everything is told in the parent's axes, whatever they are."""
    R = Rotation.random(random_state=3).as_matrix()
    parent = crystal("Pm-3m")
    parent.set_cell(parent.cell.array @ R.T, scale_atoms=True)
    result = pr.discover(parent, crystal("P4mm"), num_seeds=1, steps=STEPS)
    assert result.residual_group.hermann_mauguin == "4mm"
    (primary,) = result.primary
    assert np.abs(np.linalg.inv(R) @ primary.direction).round(3).max() == 1.0
    assert primary.words.startswith("polar vector along [")


def test_the_findings_are_plain_data():
    result = found("P4mm")
    report = json.loads(json.dumps(result.to_dict()))
    assert report["schema"] == 1
    assert report["parent"]["space_group"] == "Pm-3m (221)"
    assert report["residual_group"]["hermann_mauguin"] == "4mm"
    assert [parameter["primary"] for parameter in report["order_parameters"]].count(True) == 1
    assert len(report["domains"]) == 6


def test_the_same_seed_gives_the_same_findings():
    again = pr.discover(crystal("Pm-3m"), crystal("P4mm"), num_seeds=1, steps=STEPS)
    assert again.to_dict() == found("P4mm").to_dict()


def test_progress_counts_every_step():
    stages = {}
    pr.discover(
        crystal("Pm-3m"),
        crystal("Pm-3m"),
        num_seeds=2,
        steps=3,
        progress=lambda stage, done, total: stages.setdefault(stage, []).append((done, total)),
    )
    assert stages == {
        stage: [(1, 3), (2, 3), (3, 3)]
        for stage in ("strict network", "relaxed network, seed 0", "relaxed network, seed 1")
    }


def test_too_few_steps_are_said_to_be_too_few():
    result = found("P4mm", steps=5)
    assert "train longer" in result.sentences()[0]
    assert result.headline().startswith("no finding")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_seeds": 0}, "must be at least 1"),
        ({"steps": 0}, "must be at least 1"),
        *(({"symprec": symprec}, "'symprec' must be positive and finite") for symprec in (0, -1, float("nan"))),
    ],
)
def test_senseless_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        pr.discover(crystal("Pm-3m"), crystal("P4mm"), **option)


def never(*_):
    pytest.fail("trained although there is nothing to find")


def test_a_child_more_symmetric_than_its_parent_is_refused_before_training():
    with pytest.raises(ValueError, match=r"more symmetric than the parent .*: did you swap them"):
        pr.discover(crystal("P4mm"), crystal("Pm-3m"), progress=never)


def test_noise_above_symprec_is_refused_before_training_and_a_symprec_proposed():
    noisy = crystal("P4mm", noise=0.006)
    with pytest.raises(ValueError, match=r"noisier than symprec: try symprec=0\.0\d") as error:
        pr.discover(crystal("Pm-3m"), noisy, symprec=0.01, progress=never)
    proposed = float(str(error.value).rpartition("=")[2])
    check = pr.discover(crystal("Pm-3m"), noisy, symprec=proposed, num_seeds=1, steps=STEPS)
    assert check.residual_group.hermann_mauguin == "4mm"


def test_the_child_is_one_of_the_domains():
    downwards = crystal("P4mm")
    downwards.positions *= [1, 1, -1]
    result = pr.discover(crystal("Pm-3m"), downwards, num_seeds=1, steps=60)
    assert result.domain_words()[result.child_domain] == "polar vector along [00-1]"
    assert any(sentence.startswith(f"The child is domain {result.child_domain + 1}") for sentence in result.sentences())
    assert found("P4mm").child_domain == 0


def test_domains_that_words_cannot_tell_apart_are_told_by_operations():
    result = found("P4mm")
    words = result._domain_list()
    assert words == "polar vector along [001], " + ", ".join(w.rpartition(" ")[2] for w in result.domain_words()[1:])
    octupoles = dataclasses.replace(result, order_parameters=[dataclasses.replace(result.primary[0], irrep="3o")])
    object.__setattr__(octupoles, "domain_words", lambda: ["octupole", "octupole"])
    object.__setattr__(octupoles, "domains", [np.eye(3), -np.eye(3)])
    assert octupoles._domain_list() == "octupole (identity); octupole (inversion)"


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_five_seeds_agree(phase):
    result = found(phase, num_seeds=5, steps=300)
    check_ferroelectric(result, phase)
    assert {group.hermann_mauguin for group in result.residual_groups} == {PHASES[phase][0]}
    (primary,) = result.primary
    assert primary.num_seeds == 5
    assert primary.direction_spread < 1.0
    for seed in range(1, 5):
        check_ferroelectric(found(phase, seed=seed, steps=300), phase)
