"""The shapes break what they are said to break."""

import math

import pytest
import torch

from pyg_relaxed.compat import o3
from pyg_relaxed.datasets import shapes
from pyg_relaxed.o3 import representation
from pyg_relaxed.symmetry import point_group

pytestmark = pytest.mark.usefixtures("float64")


def kept(name):
    """The operations of m-3m under which the task, input and target together, is itself."""
    data = shapes.deformation(name)
    operations = torch.as_tensor(point_group("m-3m").operations)
    D = representation("0e+1o+2e", operations)
    kept = []
    for R, D_R in zip(operations, D, strict=True):
        image = torch.cdist(data.pos @ R.T, data.pos).argmin(1)  # vertex i goes to the place of vertex image[i]
        assert sorted(image.tolist()) == list(range(8))
        if torch.allclose(data.target @ R.T, data.target[image]):
            torch.testing.assert_close(data.y @ D_R.T, data.y[image])
            kept.append(R)
    return torch.stack(kept).numpy()


@pytest.mark.parametrize(("name", "group"), [("cube", "m-3m"), ("prism", "4/mmm"), ("less_symmetric", "1")])
def test_the_group_of_a_task(name, group):
    operations = kept(name)
    assert len(operations) == len(point_group(group))
    assert all(point_group(group).contains(R) for R in operations)


@pytest.mark.parametrize("lmax", [0, 2, 5])
def test_a_signal_peaks_where_the_point_is_and_as_high_as_it_is_far(lmax):
    points = torch.randn(4, 3)
    signals = shapes.peaks(points, lmax)
    assert signals.shape == (4, (lmax + 1) ** 2)
    directions = torch.nn.functional.normalize(torch.cat([points, torch.randn(500, 3)]), dim=1)
    Y = o3.spherical_harmonics(list(range(lmax + 1)), directions, normalize=True, normalization="component")
    values = signals @ Y.T / math.sqrt(4 * math.pi)
    torch.testing.assert_close(values[:, :4].diagonal(), points.norm(dim=1))
    assert (values <= points.norm(dim=1)[:, None] + 1e-12).all()


def test_every_vertex_sees_all_others():
    data = shapes.deformation("cube")
    assert data.edge_index.shape == (2, 56)
    assert (data.edge_index[0] != data.edge_index[1]).all()
    assert shapes.deformation("cube", cutoff=1.1).edge_index.shape == (2, 24)  # along the edges of the cube


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_default_dtype_is_that_of_the_data(dtype):
    torch.set_default_dtype(dtype)
    data = shapes.deformation("prism")
    assert {data.x.dtype, data.y.dtype, data.pos.dtype, data.target.dtype} == {dtype}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shapes.deformation("prisms"), "unknown shape 'prisms'. Did you mean 'prism'"),
        (lambda: shapes.deformation("cube", lmax=-1), "'lmax' must be a degree"),
        (lambda: shapes.deformation("cube", cutoff=0), "'cutoff' must be a positive"),
        (lambda: shapes.peaks(torch.zeros(1, 3)), "point 0 is the origin"),
    ],
)
def test_bad_input_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
