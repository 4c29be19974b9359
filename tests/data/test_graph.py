import copy
import pickle

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from pyg_relaxed.data import KEYS, AtomicData, build_graph, decode, edge_vectors, encode, level_of

SIZES = {"N": 3, "E": 5}


def every_key(num_atoms=3, num_edges=5, seed=0):
    """A graph with every key of the table, and traps for PyG in the open families."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"N": num_atoms, "E": num_edges}
    values = {}
    for key in KEYS.values():
        shape = [sizes.get(n, n) for n in key.shape]
        if key.dtype == "str":
            values[key.name] = [f"site {n}" for n in range(num_atoms)] if key.level == "node" else "cartesian"
        elif key.dtype == "float":
            values[key.name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        else:
            values[key.name] = torch.randint(2, shape, generator=generator)
            values[key.name] = values[key.name].bool() if key.dtype == "bool" else values[key.name]
    values["edge_index"] = torch.randint(num_atoms, (2, num_edges), generator=generator)
    values["site_wyckoff_index"] = torch.arange(num_atoms)
    values["site_head_batch"] = torch.arange(num_atoms)
    values["info_space_group_index"] = torch.tensor([225])
    values["info_node_face_adj"] = torch.tensor([7])
    values["info_list"] = ["a", 1]
    return AtomicData(**values)


def assert_equal(a, b):
    assert set(a.keys()) == set(b.keys())
    for name, value in a.to_dict().items():
        assert torch.equal(value, b[name]) if isinstance(value, torch.Tensor) else value == b[name], name


@pytest.mark.parametrize("sizes", [(3, 5), (1, 1), (3, 3), (1, 0), (2, 1)])
def test_batch_and_back_for_every_key(sizes):
    graphs = [every_key(*sizes, seed=0), every_key(4, 6, seed=1), every_key(1, 1, seed=2), every_key(*sizes, seed=3)]
    batch = Batch.from_data_list(graphs)
    for n, graph in enumerate(graphs):
        assert_equal(batch.get_example(n), graph)
    assert batch.num_graphs == 4
    assert batch.cell.shape == (4, 3, 3)
    assert batch.energy.shape == (4,)
    assert batch.info_space_group_index.tolist() == [225] * 4
    assert batch.tags.tolist() == torch.cat([g.tags for g in graphs]).tolist()
    assert batch.site_wyckoff_index.tolist() == [n for g in graphs for n in range(g.num_nodes)]
    assert batch.frame == ["cartesian"] * 4


def test_loader():
    graphs = [build_graph([6, 8], [[0, 0, 0], [0, 0, 1.1 + n]], np.eye(3) * 9, [True] * 3) for n in range(5)]
    batch = next(iter(DataLoader(graphs, batch_size=5)))
    assert batch.z.tolist() == [6, 8] * 5
    assert batch.batch.tolist() == [n // 2 for n in range(10)]


@pytest.mark.parametrize("sizes", [(3, 5), (1, 1), (3, 3), (1, 0)])
def test_levels_do_not_depend_on_sizes(sizes):
    graph = every_key(*sizes)
    for name, key in KEYS.items():
        assert graph.is_node_attr(name) == (key.level == "node"), name
        assert graph.is_edge_attr(name) == (key.level == "edge"), name
    assert "cell" not in graph.node_attrs()
    assert graph.is_node_attr("site_head_batch")
    assert not graph.is_node_attr("info_list")


def test_subgraph_of_a_one_atom_crystal():
    graph = build_graph([29], [[0.0, 0, 0]], 2.5 * np.eye(3), [True] * 3, cutoff=3.0, energy=-1.0, tags=[4])
    for kept in (graph.subgraph(torch.tensor([True])), graph.subgraph(torch.tensor([0]))):
        assert_equal(kept, graph)
    nothing = graph.subgraph(torch.tensor([False]))
    assert nothing.cell.shape == (1, 3, 3)
    assert nothing.energy.shape == (1,)
    assert nothing.num_nodes == nothing.num_edges == 0


def test_subgraph_cuts_what_belongs_to_the_atoms():
    graph = every_key(3, 3)
    kept = graph.subgraph(torch.tensor([0, 2]))
    assert kept.labels == ["site 0", "site 2"]
    assert kept.cell.shape == (1, 3, 3)
    assert kept.forces.tolist() == graph.forces[[0, 2]].tolist()


def test_copies_keep_the_table():
    graph = every_key(1, 1)
    for other in (copy.copy(graph), copy.deepcopy(graph), graph.clone(), pickle.loads(pickle.dumps(graph))):
        assert_equal(other, graph)
        assert not other.is_node_attr("cell")
        other.energy = torch.zeros(1)
        other.x = torch.zeros(1, 2)
        assert other.is_node_attr("x")
    assert "x" not in graph


def test_keys_are_safe_names_and_consistent():
    for name, key in KEYS.items():
        assert name == key.name
        assert key.shape[:1] == {"node": ("N",), "graph": (1,), "edge": key.shape[:1]}[key.level] or key.dtype == "str"
        assert not any(trap in name for trap in ("batch", "face", "adj", "node", "ptr")), name
        assert "index" not in name or name == "edge_index"
        assert not hasattr(Data(), name) or name in ("pos", "edge_index"), name
    assert level_of("batch") is None


def test_build_graph_shapes_dtypes_units():
    graph = build_graph(
        [8, 1, 1], np.eye(3), np.zeros((3, 3)), [False] * 3, dtype=torch.float64, energy=-1, stress=np.eye(3), charge=2
    )
    for name in ("z", "pos", "cell", "pbc", "edge_index", "edge_cell_shift", "cutoff", "energy", "stress", "charge"):
        key = KEYS[name]
        sizes = {"N": 3, "E": graph.num_edges}
        assert tuple(graph[name].shape) == tuple(sizes.get(n, n) for n in key.shape)
        assert graph[name].dtype == {"int": torch.int64, "bool": torch.bool}.get(key.dtype, torch.float64)
    assert build_graph([1], np.zeros((1, 3)), np.zeros((3, 3)), [False] * 3).pos.dtype == torch.get_default_dtype()


def test_energies_keep_their_digits():
    graph = build_graph([1], np.zeros((1, 3)), np.zeros((3, 3)), [False] * 3, dtype=torch.float32, energy=-40123.456789)
    assert graph.energy.tolist() == [-40123.456789]


def test_build_graph_shares_nothing():
    pos = np.zeros((1, 3))
    graph = build_graph([1], pos, np.zeros((3, 3)), [False] * 3, dtype=torch.float64)
    graph.pos += 1
    assert not pos.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": [0]}, "atom 0 has atomic number 0, which is no element"),
        ({"z": [119]}, "atom 0 has atomic number 119"),
        ({"z": []}, "no atoms"),
        ({"pos": np.zeros((2, 3))}, r"'pos' must have shape \(1, 3\) for 1 atomic numbers"),
        ({"frame": "lab"}, "'frame' must be one of"),
        ({"cutoff": -1.0}, "'cutoff' must be"),
    ],
)
def test_build_graph_refuses(change, message):
    given = {"z": [1], "pos": np.zeros((1, 3)), "cell": np.zeros((3, 3)), "pbc": [False] * 3}
    with pytest.raises(ValueError, match=message):
        build_graph(**{**given, **change})


def test_build_graph_refuses_integer_dtype():
    with pytest.raises(TypeError, match="'dtype' must be a floating dtype"):
        build_graph([1], np.zeros((1, 3)), np.zeros((3, 3)), [False] * 3, dtype=torch.int64)


def random_graph(seed, pbc=(True, True, True), **kwargs):
    rng = np.random.default_rng(seed)
    cell = 3 * np.eye(3) + rng.normal(size=(3, 3)) * 0.5
    return build_graph([1] * 4, rng.uniform(-2, 2, (4, 3)) @ cell, cell, pbc, 3.5, torch.float64, **kwargs)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_edge_vectors_are_the_near_images(pbc):
    graph = random_graph(1, pbc)
    expected = [
        graph.pos[s] + n.double() @ graph.cell[0] - graph.pos[d]
        for s, d, n in zip(*graph.edge_index, graph.edge_cell_shift, strict=True)
    ]
    vectors = edge_vectors(graph)
    torch.testing.assert_close(vectors, torch.stack(expected) if expected else torch.empty(0, 3).double())
    assert (vectors.norm(dim=1) < 3.5).all()


def test_edge_vectors_of_a_batch():
    graphs = [random_graph(n) for n in range(3)] + [random_graph(9, (False,) * 3)]
    batch = Batch.from_data_list(graphs)
    torch.testing.assert_close(edge_vectors(batch), torch.cat([edge_vectors(g) for g in graphs]), rtol=0, atol=1e-12)
    assert edge_vectors(Batch.from_data_list(graphs[:1])).shape == (graphs[0].num_edges, 3)


@pytest.mark.parametrize("num_graphs", [1, 2])
def test_edge_vectors_are_differentiable(num_graphs):
    batch = Batch.from_data_list([random_graph(n, (True, True, False)) for n in range(num_graphs)])
    pos, cell = batch.pos.requires_grad_(), batch.cell.requires_grad_()
    assert torch.autograd.gradcheck(lambda p, c: edge_vectors(batch, p, c), (pos, cell))


def test_edge_vectors_under_strain():
    graph = random_graph(4)
    F = torch.eye(3).double() + 0.1 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()
    strained = edge_vectors(graph, graph.pos @ F.T, graph.cell @ F.T)
    torch.testing.assert_close(strained, edge_vectors(graph) @ F.T)
    torch.testing.assert_close(edge_vectors(graph, graph.pos @ F.T, (graph.cell @ F.T)[0]), strained)


def test_edge_vectors_of_plain_data():
    pos, edge_index = torch.randn(3, 3), torch.tensor([[0, 2], [1, 1]])
    torch.testing.assert_close(edge_vectors(Data(pos=pos, edge_index=edge_index)), pos[[0, 2]] - pos[[1, 1]])
    no_cell = Data(pos=pos, edge_index=edge_index, edge_cell_shift=torch.zeros(2, 3, dtype=torch.int64))
    torch.testing.assert_close(edge_vectors(no_cell), pos[[0, 2]] - pos[[1, 1]])
    empty = Data(pos=pos, edge_index=torch.empty(2, 0, dtype=torch.int64), cell=torch.eye(3)[None])
    assert edge_vectors(empty).shape == (0, 3)
    isolated = build_graph([1], np.zeros((1, 3)), np.zeros((3, 3)), [False] * 3)
    assert edge_vectors(Batch.from_data_list([isolated, isolated])).shape == (0, 3)


def test_edge_vectors_errors():
    shift = torch.ones(1, 3, dtype=torch.int64)
    data = Data(pos=torch.zeros(1, 3), edge_index=torch.zeros(2, 1, dtype=torch.int64), edge_cell_shift=shift)
    with pytest.raises(ValueError, match="'edge_cell_shift' is not zero but the graph has no 'cell'"):
        edge_vectors(data)
    data.cell = torch.zeros(2, 3, 3)
    with pytest.raises(ValueError, match="'cell' holds 2 cells but the graph has no 'batch'"):
        edge_vectors(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("energy", -1.25),
        ("spin", 3),
        ("forces", np.ones((2, 3))),
        ("info_flag", True),
        ("info_count", 7),
        ("info_vector", np.array([1.0, 2.0])),
        ("info_one", np.array([1.0])),
        ("info_text", "text"),
        ("info_list", [1, "a"]),
        ("info_dict", {"a": 1}),
        ("info_big_endian", np.array([1.0, 2.0], dtype=">f8")),
        ("site_complex", np.array([1j, 2.0])),
        ("site_strided", np.arange(6.0)[::-2]),
    ],
)
def test_encode_and_decode(name, value):
    back = decode(name, encode(name, value, torch.float64))
    assert type(back) is type(value)
    assert np.array_equal(back, value) if isinstance(value, np.ndarray) else back == value


def test_read_only_arrays():
    value = np.ones(3)
    value.flags.writeable = False
    assert encode("site_a", value, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_cutoff_is_not_rounded_to_16_bits(dtype):
    data = build_graph([1], [[0, 0, 0]], torch.zeros(3, 3), [False] * 3, cutoff=4.7, dtype=dtype)
    assert data.pos.dtype == dtype
    assert data.cutoff.item() == pytest.approx(4.7, rel=1e-7)
