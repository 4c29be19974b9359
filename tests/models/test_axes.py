import warnings

import pytest
import torch
from ase.spacegroup import crystal
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed.data import FrameWarning, align_to

RUTILE = crystal(["Ti", "O"], [(0, 0, 0), (0.3, 0.3, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.95, 90, 90, 90])


def model(broken=True):
    net = pr.models.RelaxedDistortion([22, 8], "0e+1o+2e", "2x0e+2x1o", cutoff=3.0)
    if broken:
        for theta in pr.thetas(net).values():
            theta.set_(torch.tensor([1.0, 0, 0, 0.5, 0, 0, 0, 0, 0]))
    return net


def graph(frame=None):
    return pr.from_ase(RUTILE, cutoff=3.0, frame=frame, extras=False)


def test_rebuilt_axes_are_named_once():
    net = model()
    assert graph().frame == "standard"
    with pytest.warns(
        FrameWarning, match=r"RelaxedDistortion breaks symmetry \(theta in 1o\).*those of this structure were rebuilt"
    ):
        net(graph())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(graph())
    with pytest.warns(FrameWarning, match="structure 1 of the batch"):
        model()(Batch.from_data_list([graph("cartesian"), graph()]))


def test_strict_models_refuse_them_every_time():
    net = model()
    net.strict_frame = True
    for _ in range(2):
        with pytest.raises(ValueError, match="were rebuilt from lengths and angles"):
            net(graph())
    net(graph("cartesian"))


@pytest.mark.parametrize(
    "case", [(model(broken=False), graph()), (model(), graph("cartesian"))], ids=["equivariant", "axes kept"]
)
def test_nothing_is_said_where_it_does_not_matter(case):
    net, data = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(data)


def test_the_way_out():
    data, _ = align_to(graph(), RUTILE.cell.array)
    data.frame = "cartesian"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model()(data)


def test_a_network_of_features_says_it_too():
    net = pr.models.RelaxedE3NN("1x0e", "0e", "2x0e+2x1o", "0e+1o", cutoff=3.0)
    for theta in pr.thetas(net).values():
        theta.set_(torch.tensor([1.0, 0, 0, 0.5]))
    data = graph()
    data.x = torch.ones(data.num_nodes, 1)
    with pytest.warns(FrameWarning, match="RelaxedE3NN breaks symmetry"):
        net(data)
