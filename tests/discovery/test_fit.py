import numpy as np
import pytest

import pyg_relaxed as pr
from pyg_relaxed import structures
from pyg_relaxed.discovery import fit_distortion, map_child, residual_group

CUBE = pr.symmetry.point_group("m-3m")


def mapping(phase, noise=0.0):
    child = structures.load(f"BaTiO3_{phase}")
    child.positions += np.random.default_rng(0).uniform(-noise, noise, child.positions.shape)
    return map_child(structures.load("BaTiO3_Pm-3m"), child, symprec=0.02)


@pytest.mark.parametrize(
    ("phase", "group", "noise"),
    [("P4mm", "4mm", 0.0), ("Amm2", "mm2", 0.0), ("R3m", "3m", 0.0), ("P4mm", "4mm", 0.002)],
)
def test_the_residual_group_of_a_ferroelectric(phase, group, noise):
    fit = fit_distortion(mapping(phase, noise), steps=120)
    found = residual_group(fit, CUBE)
    assert found.group.hermann_mauguin == group
    assert found.kept < 0.01 < 0.05 < found.broken
    strict = fit_distortion(mapping(phase, noise), strict=True, steps=120)
    assert strict.loss > 100 * fit.loss
    assert residual_group(strict, CUBE).group.hermann_mauguin == "m-3m"


@pytest.mark.parametrize("scale", [1.0, 1.01])
def test_nothing_is_broken_where_nothing_is(scale):
    parent = structures.load("BaTiO3_Pm-3m")
    child = parent.copy()
    child.set_cell(child.cell.array * scale, scale_atoms=True)
    fit = fit_distortion(map_child(parent, child), steps=120)
    assert residual_group(fit, CUBE).group.hermann_mauguin == "m-3m"
    for theta in pr.thetas(fit.model).values():
        assert all(norm == 0 for ir, norm in theta.norms().items() if ir != "0e")
