import numpy as np
import pytest

import pyg_relaxed as pr
from pyg_relaxed import structures
from pyg_relaxed.discovery import Parent, fit_distortion, map_child, residual_group


def mapped(phase, noise=0.0):
    child = structures.load(f"BaTiO3_{phase}")
    child.positions += np.random.default_rng(0).uniform(-noise, noise, child.positions.shape)
    return map_child(structures.load("BaTiO3_Pm-3m"), child, symprec=0.02)


@pytest.mark.parametrize(
    ("phase", "group", "noise"),
    [("P4mm", "4mm", 0.0), ("Amm2", "mm2", 0.0), ("R3m", "3m", 0.0), ("P4mm", "4mm", 0.002)],
)
def test_the_residual_group_of_a_ferroelectric(phase, group, noise):
    mapping = mapped(phase, noise)
    parent = Parent.from_atoms(mapping.parent)
    fit = fit_distortion(mapping, steps=120)
    found = residual_group(fit, parent)
    assert found.group.hermann_mauguin == group
    assert found.kept < 0.01 < 0.05 < found.broken
    strict = fit_distortion(mapping, strict=True, steps=120)
    assert strict.loss > 100 * fit.loss
    assert residual_group(strict, parent).group.hermann_mauguin == "m-3m"


@pytest.mark.parametrize("scale", [1.0, 1.01])
def test_nothing_is_broken_where_nothing_is(scale):
    parent = structures.load("BaTiO3_Pm-3m")
    child = parent.copy()
    child.set_cell(child.cell.array * scale, scale_atoms=True)
    mapping = map_child(parent, child)
    fit = fit_distortion(mapping, steps=120)
    assert residual_group(fit, Parent.from_atoms(mapping.parent)).group.hermann_mauguin == "m-3m"
    for theta in pr.thetas(fit.model).values():
        assert all(norm == 0 for ir, norm in theta.norms().items() if ir != "0e")
