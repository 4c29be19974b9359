"""What a layer has to do to drop into PyTorch Geometric."""

import copy
import shutil

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import Batch, Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.loader import DataLoader
from torch_geometric.nn import Sequential
from torch_geometric.testing import assert_module

import pyg_relaxed as pr
from pyg_relaxed.compat import e3nn
from pyg_relaxed.nn import RelaxedConv

IRREPS = "3x0e+2x0o+2x1o+2x1e+2x2e"
SH, THETA = "0e+1o+2e", "0e+0o+1o+2e"
compiles = pytest.mark.skipif(
    tuple(map(int, e3nn.__version__.split(".")[:2])) < (0, 6), reason="e3nn before 0.6 cannot be compiled"
)


def conv(irreps_in=IRREPS, irreps_out=IRREPS, theta=THETA, **options):
    layer = RelaxedConv(irreps_in, irreps_out, SH, theta, num_basis=3, radial_hidden=(8,), **options)
    if theta is not None:
        layer.theta.set_(torch.randn(layer.theta.irreps_theta.dim))
    return layer


def graph(nodes=6, edges=20, dim=27):
    edge_index = torch.stack([torch.randint(0, nodes, (edges,)), torch.randint(0, nodes - 1, (edges,))])
    return torch.randn(nodes, dim), edge_index, torch.randn(edges, 3)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("theta", [None, THETA])
def test_the_order_of_edges_does_not_matter(theta):
    """PyG's own check."""
    layer = conv(theta=theta)
    x, edge_index, edge_vec = graph()
    assert_module(
        layer, x, edge_index, edge_vec=edge_vec, expected_size=(6, 27), test_edge_permutation=True,
        test_sparse_layouts=[], atol=1e-4, rtol=1e-4,
    )  # fmt: skip


def test_bipartite_graphs():
    layer = conv(irreps_in=("2x0e+1o", "4x0e+2e"))
    sources, targets = torch.randn(5, 5), torch.randn(3, 9)
    edge_index = torch.tensor([[0, 4, 2, 2], [0, 1, 1, 0]])
    edge_vec = torch.randn(4, 3)
    out = layer((sources, targets), edge_index, edge_vec)
    assert out.shape == (3, 27)
    torch.testing.assert_close(layer((sources, targets), edge_index, edge_vec, size=(5, 3)), out)
    # Without target features there is no self-connection, and size says how many targets there are.
    alone = layer((sources, None), edge_index, edge_vec, size=(5, 3))
    torch.testing.assert_close(alone + layer.self_connection(targets), out)
    assert str(layer).startswith("RelaxedConv((2x0e+1x1o, 4x0e+1x2e), ")


@pytest.mark.parametrize("size", [(6, 5), (7, 6)])
def test_a_size_that_contradicts_the_features_is_refused(size):
    x, edge_index, edge_vec = graph()
    with pytest.raises(ValueError, match="'size' says"):
        conv()((x, x), edge_index, edge_vec, size=size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (1, 0), (4, 0)])
def test_no_edges_and_no_nodes_are_graphs(nodes, edges, dtype):
    layer = conv().to(dtype)
    x = torch.randn(nodes, 27, dtype=dtype)
    out = layer(x, torch.zeros(2, edges, dtype=torch.long), torch.zeros(edges, 3, dtype=dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out, layer.self_connection(x))


def test_an_edge_of_no_length_is_no_nan():
    out = conv()(torch.randn(1, 27), torch.zeros(2, 1, dtype=torch.long), torch.zeros(1, 3))
    assert out.isfinite().all()


def test_reset_parameters_draws_everything_anew():
    layer = conv(edge_dim=2)
    before = {name: value.clone() for name, value in layer.named_parameters()}
    layer.reset_parameters()
    for name, value in layer.named_parameters():
        if value.numel() and not name.endswith("linear.bias"):
            assert not torch.equal(value, before[name]), name
    assert {ir: norm for ir, norm in layer.theta.norms().items() if norm} == {"0e": 1.0}


def test_representation():
    assert str(conv()) == (
        "RelaxedConv(3x0e+2x0o+2x1o+2x1e+2x2e, 3x0e+2x0o+2x1o+2x1e+2x2e, sh=1x0e+1x1o+1x2e, theta=1x0e+1x0o+1x1o+1x2e)"
    )
    assert "theta" not in str(conv(theta=None))


def test_state_dict_and_deepcopy():
    layer, data = conv(), graph()
    again = conv()
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(*data), layer(*data))
    copied = copy.deepcopy(layer)
    copied.theta.strict_()
    assert not torch.equal(copied(*data), layer(*data))
    assert torch.equal(again(*data), layer(*data))


def test_sequential():
    net = Sequential("x, edge_index, edge_vec", [(conv(), "x, edge_index, edge_vec -> x"), torch.nn.Identity()])
    data = graph()
    torch.testing.assert_close(net(*data), net[0](*data))


def graphs():
    found = []
    for nodes, edges in ((3, 5), (1, 0), (5, 9)):
        x, edge_index, edge_vec = (
            graph(nodes, edges) if edges else (torch.randn(1, 27), torch.zeros(2, 0).long(), torch.zeros(0, 3))
        )
        found.append(Data(x=x, edge_index=edge_index, edge_vec=edge_vec))
    return found


def test_a_batch_is_its_graphs():
    layer, single = conv(), graphs()
    out = torch.cat([layer(g.x, g.edge_index, g.edge_vec) for g in single])
    batch = Batch.from_data_list(single)
    torch.testing.assert_close(layer(batch.x, batch.edge_index, batch.edge_vec), out, rtol=1e-4, atol=1e-4)
    (loaded,) = DataLoader(single, batch_size=3)
    torch.testing.assert_close(layer(loaded.x, loaded.edge_index, loaded.edge_vec), out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_pooling_does_not_need_sorted_graphs(pool):
    net = pr.models.RelaxedE3NN(IRREPS, "1o", "4x0e+4x1o", THETA, num_layers=1, pool=pool)
    pr.thetas(net)["layers.0.conv.theta"].set_(torch.randn(10))
    single = graphs()
    expected = torch.cat([net(g) for g in single])
    batch = Batch.from_data_list(single)
    torch.testing.assert_close(net(batch), expected, rtol=1e-4, atol=1e-4)
    order = torch.randperm(batch.num_nodes)
    shuffled = net(batch.x[order], order.argsort()[batch.edge_index], batch.edge_vec, batch.batch[order])
    torch.testing.assert_close(shuffled, expected, rtol=1e-4, atol=1e-4)


def test_mean_divides_by_the_edges_a_node_receives():
    total, mean = conv(self_connection=False), conv(aggr="mean", self_connection=False)
    mean.load_state_dict(total.state_dict())
    x, edge_index, edge_vec = graph()
    degree = torch.bincount(edge_index[1], minlength=6).clamp(min=1)[:, None]
    torch.testing.assert_close(
        mean(x, edge_index, edge_vec) * degree, total(x, edge_index, edge_vec), rtol=1e-4, atol=1e-4
    )


def test_flow_turns_the_edges_around():
    layer, turned = conv(), conv(flow="target_to_source")
    turned.load_state_dict(layer.state_dict())
    x, edge_index, edge_vec = graph()
    torch.testing.assert_close(
        turned(x, edge_index.flip(0), edge_vec), layer(x, edge_index, edge_vec), rtol=1e-4, atol=1e-4
    )


def test_a_sorted_edge_index_is_an_edge_index():
    layer = conv()
    x, edge_index, edge_vec = graph()
    order = edge_index[1].argsort(stable=True)
    by_receiver = EdgeIndex(edge_index[:, order], sort_order="col", sparse_size=(6, 6))
    out = layer(x, by_receiver, edge_vec[order])
    assert type(out) is torch.Tensor
    torch.testing.assert_close(out, layer(x, edge_index, edge_vec), rtol=1e-4, atol=1e-4)


class Silent(RelaxedConv):
    def message(self, x_j, edge_sh, weight):
        return 0 * super().message(x_j, edge_sh, weight)


class Deaf(RelaxedConv):
    def aggregate(self, inputs, index, ptr=None, dim_size=None):
        return 0 * super().aggregate(inputs, index, ptr, dim_size)


class Mute(RelaxedConv):
    def update(self, inputs):
        return 0 * super().update(inputs)


@pytest.mark.parametrize(
    "subclass",
    [
        Silent,
        Deaf,
        Mute,
    ],
)
def test_what_a_subclass_overrides_is_called(subclass):
    layer = subclass("2x0e", "2x0e+1o", SH, THETA, self_connection=False)
    assert layer(*graph(dim=2)).abs().max() == 0


def test_the_specialised_propagate_is_used():
    conv()._set_jittable_templates(raise_on_error=True)


def test_shared_theta():
    theta = pr.RelaxedWeights(THETA)
    first, second = conv(theta=None), None
    first, second = (RelaxedConv(IRREPS, IRREPS, SH, theta) for _ in range(2))
    data = graph()
    (first(*data) + second(*data)).square().sum().backward()
    assert first.theta is second.theta is theta
    assert theta.weight.grad.norm() > 0


class Pooled(torch.nn.Module):
    """What an explainer explains: a prediction for each graph."""

    def __init__(self):
        super().__init__()
        self.conv = conv(irreps_out="2x0e", irreps_in="3x0e")

    def forward(self, x, edge_index, edge_vec):
        return self.conv(x, edge_index, edge_vec).mean(0, keepdim=True)


def test_explainer_masks_scale_the_messages():
    model = Pooled()
    x, edge_index, edge_vec = graph(dim=3)
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=3),
        explanation_type="model",
        edge_mask_type="object",
        node_mask_type="attributes",
        model_config={"mode": "regression", "task_level": "graph", "return_type": "raw"},
    )
    explanation = explainer(x, edge_index, edge_vec=edge_vec)
    assert explanation.edge_mask.shape == (20,)
    assert explanation.node_mask.shape == (6, 3)
    # A mask of zero is a graph without edges; one of one half is half the messages.
    none = model(x, edge_index[:, :0], edge_vec[:0])
    full = model(x, edge_index, edge_vec)
    for value, expected in ((-100.0, none), (0.0, (none + full) / 2)):
        model.conv.explain = True
        mask = torch.nn.Parameter(torch.full((20,), value))
        model.conv._edge_mask, model.conv._loop_mask, model.conv._apply_sigmoid = mask, None, True
        torch.testing.assert_close(model(x, edge_index, edge_vec), expected, rtol=1e-4, atol=1e-4)


@compiles
@pytest.mark.skipif(shutil.which("cc") is None, reason="torch.compile needs a C compiler")
@pytest.mark.parametrize("what", ["conv", "network"])
def test_compiles_as_one_graph_for_any_size(what):
    torch._dynamo.reset()
    if what == "conv":
        model = conv()
    else:
        model = pr.models.RelaxedE3NN(IRREPS, "0e+1o", "4x0e+4x1o", THETA, num_layers=1, num_neighbors=5)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for nodes, edges in ((6, 20), (9, 31), (4, 7)):
        data = graph(nodes, edges)
        grads = []
        for function in (model, compiled):
            model.zero_grad()
            out = function(*data)
            out.square().mean().backward()
            grads.append([out.detach(), *(p.grad.clone() for p in model.parameters())])
        for eager, other in zip(*grads, strict=True):
            assert (eager - other).abs().max() <= 1e-4 * eager.abs().max()


@compiles
def test_no_graph_breaks():
    explained = torch._dynamo.explain(conv())(*graph())
    assert explained.graph_break_count == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_the_same_on_a_gpu(dtype, tolerance):
    net = pr.models.RelaxedE3NN(IRREPS, "0e+1o", "4x0e+4x1o", THETA, num_layers=2).to(dtype)
    for theta in pr.thetas(net).values():
        theta.set_(torch.randn(theta.irreps_theta.dim))
    x, edge_index, edge_vec = graph()
    expected = net(x.to(dtype), edge_index, edge_vec.to(dtype))
    net = net.cuda()
    out = net(x.to("cuda", dtype), edge_index.cuda(), edge_vec.to("cuda", dtype)).cpu()
    assert (out - expected).abs().max() <= tolerance * expected.abs().max()
    before = {name: theta().clone() for name, theta in pr.thetas(net).items()}
    pr.project_(pr.rotate_(net, torch.eye(3)[[1, 2, 0]]), "m-3m")
    optimizer = pr.optim.RelaxedAdam(net, penalty=0.1)
    net(x.to("cuda", dtype), edge_index.cuda(), edge_vec.to("cuda", dtype)).square().sum().backward()
    optimizer.step()
    for name, theta in pr.thetas(net).items():
        assert theta().is_cuda
        assert not torch.equal(theta(), before[name])
