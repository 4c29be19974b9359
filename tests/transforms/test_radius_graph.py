import pytest
import torch
from ase.build import bulk, molecule
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose, ToUndirected

import pyg_relaxed as pr
from pyg_relaxed.transforms import PositionNoise, RadiusGraph

GRAPHS = {
    "crystal": bulk("NaCl", "rocksalt", a=5.64),
    "one atom": bulk("Cu"),
    "slab": bulk("Cu", cubic=True),
    "molecule": molecule("CH3CH2OH"),
}
GRAPHS["slab"].pbc = (True, True, False)


def same_edges(a, b):
    return torch.equal(a.edge_index, b.edge_index) and torch.equal(a.edge_cell_shift, b.edge_cell_shift)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_new_cutoff_gives_the_graph_of_that_cutoff(name):
    before = pr.from_ase(GRAPHS[name], cutoff=3.0)
    edges = before.edge_index.clone()
    found, expected = RadiusGraph(6.0)(before), pr.from_ase(GRAPHS[name], cutoff=6.0)
    assert same_edges(found, expected)
    assert found.cutoff.equal(expected.cutoff)
    assert found.edge_index.shape[1] > edges.shape[1]
    assert torch.equal(before.edge_index, edges)  # a transform leaves its input alone


def test_no_neighbour_is_left_out():
    """PyG's own stops at 32, torch-cluster's at 32 too (PyG#1867)."""
    ball = Data(pos=torch.randn(100, 3) * 0.5)
    assert RadiusGraph(50.0)(ball).num_edges == 100 * 99


def test_a_batch_is_its_graphs():
    graphs = [pr.from_ase(atoms, cutoff=3.0, extras=False) for atoms in GRAPHS.values()]
    batch = RadiusGraph(5.0)(Batch.from_data_list(graphs))
    assert all(
        same_edges(found, RadiusGraph(5.0)(graph)) for found, graph in zip(batch.to_data_list(), graphs, strict=True)
    )
    (loaded,) = DataLoader([RadiusGraph(5.0)(graph) for graph in graphs], batch_size=4)
    assert same_edges(batch, loaded)


@pytest.mark.parametrize("name", ["edge_attr", "edge_vec", "edge_weight", "edge_type", "distances"])
def test_attributes_of_the_old_edges_go(name):
    data = pr.from_ase(bulk("Cu"), cutoff=3.0)
    data[name], data.x = torch.zeros(data.num_edges, 2), torch.zeros(1, 4)
    found = RadiusGraph(4.0)(data)
    assert name not in found
    assert "x" in found
    assert name in data
    found.validate()


def test_attributes_of_edges_that_are_not_there_go_too():
    data = Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool))
    data.edge_weight = torch.ones(5)
    assert "edge_weight" not in RadiusGraph(1.2)(data)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_cutoff_is_exact_in_every_dtype_of_positions(dtype):
    """In 16 bits 4.7 is 4.6875, and 2.33 is 2.328125."""
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 4.6875], [0, 4.75, 0]], dtype=dtype)
    found = RadiusGraph(4.7)(Data(pos=pos))
    assert found.cutoff.item() == pytest.approx(4.7, rel=1e-7)
    assert found.edge_index.tolist() == [[1, 0], [0, 1]]
    moved = PositionNoise(1e-6)(found)
    assert moved.cutoff.item() == found.cutoff.item()
    assert same_edges(moved, found)


def test_it_composes():
    found = Compose([RadiusGraph(4.0), ToUndirected()])(Data(pos=torch.tensor([[0.0, 0, 0], [1, 0, 0]])))
    assert found.edge_index.tolist() == [[0, 1], [1, 0]]


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="'cutoff' must be a positive"):
        RadiusGraph(0.0)
    with pytest.raises(ValueError, match=r"needs positions 'pos' \(it has z\)"):
        RadiusGraph(1.0)(Data(z=torch.ones(1)))
    with pytest.raises(ValueError, match="the graph has no 'cell'"):
        RadiusGraph(1.0)(Data(pos=torch.zeros(1, 3), pbc=torch.ones(1, 3, dtype=torch.bool)))
    assert repr(RadiusGraph(4)) == "RadiusGraph(cutoff=4.0)"
