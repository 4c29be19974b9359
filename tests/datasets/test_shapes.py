import numpy as np
import pytest
import torch
from e3nn.io import SphericalTensor

import pyg_relaxed as pr
from pyg_relaxed.datasets import shapes

GROUPS = {"cube": "m-3m", "prism": "4/mmm", "less_symmetric": "1"}


def symmetries(data, lmax=2):
    """The operations of m-3m that map the task to itself: each takes a vertex to one whose target is the turned one."""
    kept = []
    for g in pr.symmetry.point_group("m-3m").operations:
        R, D = torch.as_tensor(g), pr.o3.representation(signal(lmax), g)
        distance = torch.cdist(data.pos @ R.T, data.pos)
        image = distance.argmin(1)
        assert distance.gather(1, image[:, None]).max() < 1e-12
        assert sorted(image.tolist()) == list(range(8))
        if (data.y @ D.T - data.y[image]).abs().max() < 1e-12:
            assert (data.target @ R.T - data.target[image]).abs().max() < 1e-12
            kept.append(g)
    return pr.symmetry.PointGroup.from_operations(np.array(kept))


def signal(lmax):
    return "+".join(f"{l}{'eo'[l % 2]}" for l in range(lmax + 1))


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("lmax", [1, 2, 4])
def test_the_symmetry_of_each_task(float64, name, lmax):
    group = symmetries(shapes.deformation(name, lmax), lmax)
    assert group.hermann_mauguin == GROUPS[name]
    assert len(group) == len(pr.symmetry.point_group(GROUPS[name]))
    assert group.is_subgroup_of(pr.symmetry.point_group(GROUPS[name]))  # in its orientation: the axis of 4/mmm is z


@pytest.mark.parametrize("lmax", [0, 1, 2, 4])
def test_peaks_are_those_of_e3nn(float64, lmax):
    points = torch.randn(7, 3)
    oracle = SphericalTensor(lmax, p_val=1, p_arg=-1)
    expected = torch.stack([oracle.with_peaks_at(point[None]) for point in points])
    found = shapes.peaks(points, lmax)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    heights = torch.stack([oracle.signal_xyz(y, point) for y, point in zip(found, points, strict=True)])
    torch.testing.assert_close(heights, points.norm(dim=1))


def test_peaks_turn_with_the_points(float64):
    points = torch.randn(5, 3)
    R = torch.linalg.qr(torch.randn(3, 3))[0]
    for g in (R, -R):
        D = pr.o3.representation(signal(3), g)
        torch.testing.assert_close(shapes.peaks(points @ g.T, 3), shapes.peaks(points, 3) @ D.T)


def test_every_vertex_sees_all_others():
    data = shapes.deformation("cube")
    assert {tuple(pair) for pair in data.edge_index.T.tolist()} == {
        (i, j) for i in range(8) for j in range(8) if i != j
    }
    assert shapes.deformation("cube", cutoff=1.1).edge_index.shape == (2, 24)  # the twelve sides, both ways


@pytest.mark.parametrize("name", GROUPS)
def test_float32_is_float64_rounded(float64, name):
    exact = shapes.deformation(name)
    torch.set_default_dtype(torch.float32)
    rounded = shapes.deformation(name)
    for key in ("x", "pos", "target", "y"):
        assert rounded[key].dtype == torch.float32
        torch.testing.assert_close(rounded[key], exact[key].float())


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match=r"unknown shape 'prsm': did you mean 'prism'\?"):
        shapes.deformation("prsm")
    with pytest.raises(ValueError, match="known are cube, prism, less_symmetric"):
        shapes.deformation("dodecahedron")
    with pytest.raises(ValueError, match="'lmax' must be a degree"):
        shapes.deformation("cube", lmax=-1)
    with pytest.raises(ValueError, match="point 1 is the origin"):
        shapes.peaks(torch.tensor([[1.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="'cutoff' must be a positive"):
        shapes.deformation("cube", cutoff=0.0)
