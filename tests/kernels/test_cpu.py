"""Compiled C against plain torch and against e3nn: values, first and second derivatives, any graph."""

import subprocess
import sys
from contextlib import contextmanager

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from parity import assert_same, derivatives
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_relaxed.compat import o3
from pyg_relaxed.kernels import PathTable, TensorProductConv, interpolate, perceptron
from pyg_relaxed.kernels.cpu import (
    find_compiler,
    memory,
    networked,
    sorted_edges,
    sorting,
    splined,
    to_edges,
    to_inputs,
    to_inputs_backward,
    to_receivers,
    to_senders,
)
from pyg_relaxed.kernels.cpu.library import library
from pyg_relaxed.kernels.cpu.silu import silu
from pyg_relaxed.o3.layout import ChangeOfLayout

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
some = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
irrep = st.builds(o3.Irrep, st.integers(0, 2), st.sampled_from([1, -1]))
irreps = st.lists(st.tuples(st.sampled_from([1, 2, 3, 8, 17]), irrep), min_size=1, max_size=3).map(o3.Irreps)
edge_irreps = st.lists(st.tuples(st.integers(1, 2), irrep), min_size=1, max_size=3).map(o3.Irreps)


def operators(irreps_in, irreps_sh, lmax=2, layout="mul_ir", dtype=torch.float64):
    """Return the compiled operation and the reference."""
    try:
        pair = [TensorProductConv(irreps_in, irreps_sh, lmax, layout=layout, backend=b) for b in ("cpu", "torch")]
    except ValueError:
        assume(False)
    return [op.to(dtype) for op in pair]


def inputs(op, senders, receivers, edges, dtype, is_sorted=False):
    """Directed, with duplicate edges and edges of a node to itself; the last receiver has none."""
    edge_index = torch.stack([torch.randint(0, senders, (edges,)), torch.randint(0, max(receivers - 1, 1), (edges,))])
    if edges > 2:
        edge_index[:, 1] = edge_index[:, 0]
        edge_index[:, 2] = 0
    if is_sorted:
        edge_index = edge_index[:, torch.argsort(edge_index[1], stable=True)]
    x, sh = torch.randn(senders, op.irreps_in.dim), torch.randn(edges, op.irreps_sh.dim)
    # Neither rows nor columns are contiguous.
    weight = torch.randn(op.weight_numel, 2 * edges).T[::2]
    return [t.to(dtype) for t in (x, sh, weight)], edge_index


def layers(edges, widths, dtype=torch.float64):
    """Return inputs and matrices of a radial network."""
    return [torch.randn(a, b, dtype=dtype) for a, b in zip([edges, *widths[:-1]], widths, strict=True)]


@contextmanager
def small_parts(edges):
    before, sorting.PART = sorting.PART, edges
    try:
        yield
    finally:
        sorting.PART = before


@pytest.mark.parametrize("dtype", TOLERANCE)
@some
@given(st.lists(st.tuples(st.integers(1, 40), st.builds(o3.Irrep, st.integers(0, 5), st.just(1))), max_size=3))
def test_layouts_of_any_multiplicity_and_degree(dtype, blocks):
    table = PathTable(o3.Irreps([(1, (0, 1)), *blocks]), o3.Irreps("0e"), lmax=5)
    sums, nodes = library(table.spec, dtype), torch.randn(5, table.irreps_in.dim, dtype=dtype)
    turned = sums.transpose("in_to_ir_mul", nodes)
    assert turned.equal(ChangeOfLayout(table.irreps_in, "ir_mul")(nodes))
    assert sums.transpose("in_to_mul_ir", turned).equal(nodes)


@some
@given(
    irreps, edge_irreps, st.sampled_from(["mul_ir", "ir_mul"]), st.sampled_from(list(TOLERANCE)), st.integers(0, 999)
)
def test_values_and_two_orders_of_derivatives(irreps_in, irreps_sh, layout, dtype, seed):
    torch.manual_seed(seed)
    compiled, reference = operators(irreps_in, irreps_sh, layout=layout, dtype=dtype)
    senders, receivers, edges = seed % 5 + 1, seed % 7 + 1, seed % 31
    arguments, edge_index = inputs(compiled, senders, receivers, edges, dtype)
    found, expected = (
        derivatives(lambda *a, op=op: op(*a, edge_index, receivers), arguments) for op in (compiled, reference)
    )
    assert_same(found, expected, TOLERANCE[dtype])
    if receivers > 1:
        assert found[0][-1].abs().max() == 0


@some
@given(
    *(irreps, edge_irreps, st.sampled_from(["mul_ir", "ir_mul"])),
    *(st.lists(st.integers(1, 5), max_size=2), st.booleans(), st.integers(0, 999)),
)
def test_weights_of_a_network(irreps_in, irreps_sh, layout, hidden, is_sorted, seed):
    """Several parts, of which some are empty, agree with the layers of the network stored as a whole."""
    torch.manual_seed(seed)
    op, reference = operators(irreps_in, irreps_sh, layout=layout)
    (x, sh, _), edge_index = inputs(op, 6, 7, seed % 41, torch.float64, is_sorted)
    network = layers(len(sh), [3, *hidden, op.weight_numel])
    with small_parts(6):
        found = derivatives(lambda x, sh, t, *M: op.networked(x, sh, t, M, edge_index, 7), (x, sh, *network))
    expected = derivatives(lambda x, sh, t, *M: reference(x, sh, perceptron(t, M), edge_index, 7), (x, sh, *network))
    assert_same(found, expected, TOLERANCE[torch.float64])


@some
@given(irreps, edge_irreps, st.sampled_from(["mul_ir", "ir_mul"]), st.integers(0, 999))
def test_weights_from_a_table(irreps_in, irreps_sh, layout, seed):
    torch.manual_seed(seed)
    op, reference = operators(irreps_in, irreps_sh, layout=layout)
    (x, sh, _), edge_index = inputs(op, 6, 7, seed % 41, torch.float64)
    length, table = 2 * torch.rand(len(sh)).double(), torch.randn(5, 2, op.weight_numel).double()
    arguments = [t.requires_grad_() for t in (x, sh, length)]
    found = op.splined(*arguments, table, 0.4, edge_index, 7)
    expected = reference(x, sh, interpolate(length, table, 0.4), edge_index, 7)
    along = torch.randn_like(expected)
    assert_same([found], [expected], TOLERANCE[torch.float64])
    gradients = (torch.autograd.grad(y, arguments, along) for y in (found, expected))
    assert_same(*gradients, TOLERANCE[torch.float64])


def test_a_cubic_is_interpolated_exactly_and_beyond_the_table_too():
    knots = torch.arange(4.0, dtype=torch.float64)
    table = torch.stack([knots**3 - knots, 3 * knots**2 - 1], dim=1)[:, :, None]
    length = torch.linspace(0, 3.5, 9, dtype=torch.float64)
    torch.testing.assert_close(interpolate(length, table, 1.0)[:, 0], length**3 - length)


@pytest.mark.parametrize("irreps_in", ["16x0e+16x1o+16x2e", "5x0e+3x1o+2x3o"])
def test_equals_e3nn_in_float32(irreps_in):
    op = TensorProductConv(irreps_in, "0e+1o+2e", lmax=2, backend="cpu")
    (x, sh, weight), edge_index = inputs(op, 9, 9, 200, torch.float32)
    instructions, blocks = [], []
    for path in op.table.paths:
        instructions.append((path.i, path.j, path.k, "uvu", True))
        blocks = op.table.blocks
    product = o3.TensorProduct(
        op.irreps_in, op.irreps_sh, blocks, instructions, shared_weights=False, internal_weights=False
    )
    expected = torch.zeros(9, op.irreps_out.dim).index_add(0, edge_index[1], product(x[edge_index[0]], sh, weight))
    assert_same([op(x, sh, weight, edge_index)], [expected], TOLERANCE[torch.float32])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_silu_and_its_derivatives_are_exact(order, dtype):
    large = torch.tensor([0.0, 50.0, -50.0, 86.5, -86.5, 89.0, -89.0, 707.0, -707.0, 1e30, -1e30])
    x = torch.cat([torch.linspace(-20, 20, 401), large]).to(dtype)
    with mpmath.workdps(40):
        s = [1 / (1 + mpmath.exp(-a)) for a in x.tolist()]
        exact = [
            [a * b for a, b in zip(x.tolist(), s, strict=True)],
            [b + a * b * (1 - b) for a, b in zip(x.tolist(), s, strict=True)],
            [b * (1 - b) * (2 + a * (1 - 2 * b)) for a, b in zip(x.tolist(), s, strict=True)],
        ]
    found, accuracy = silu(x, order), torch.finfo(dtype).eps
    assert len(found) == 1 + order
    for a, b in zip(found, exact, strict=False):
        torch.testing.assert_close(a, torch.tensor(b, dtype=dtype), rtol=4 * accuracy, atol=accuracy)
    assert silu(torch.tensor([torch.nan], dtype=dtype), order)[-1].isnan()


def test_results_do_not_depend_on_the_number_of_threads():
    op = TensorProductConv("8x0e+8x1o", "0e+1o", lmax=1, backend="cpu")
    arguments, edge_index = inputs(op, 40, 40, 1000, torch.float32)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(derivatives(lambda *a: op(*a, edge_index), arguments))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_gradcheck(layout):
    op = TensorProductConv("2x0e+1x1o", "0e+1o", lmax=1, layout=layout, backend="cpu").double()
    arguments, edge_index = inputs(op, 3, 3, 5, torch.float64)
    arguments = [t.clone().requires_grad_() for t in arguments]
    assert torch.autograd.gradcheck(lambda *a: op(*a, edge_index), arguments)
    assert torch.autograd.gradgradcheck(lambda *a: op(*a, edge_index), arguments)
    x, sh, _ = arguments
    network = [t.requires_grad_() for t in layers(5, [2, 3, op.weight_numel])]
    assert torch.autograd.gradcheck(lambda x, sh, t, *M: op.networked(x, sh, t, M, edge_index), [x, sh, *network])
    assert torch.autograd.gradgradcheck(lambda x, sh, t, *M: op.networked(x, sh, t, M, edge_index), [x, sh, *network])


@pytest.mark.parametrize(
    "needed", [(True, True, True), (True, False, False), (False, True, False), (True, True, False)]
)
def test_third_derivatives(needed):
    compiled, reference = operators("2x0e+1x1o", "0e+1o", lmax=1)
    arguments, edge_index = inputs(compiled, 3, 3, 5, torch.float64)
    results = []
    for op in (compiled, reference):
        leaves = [t.clone().requires_grad_(need) for t, need in zip(arguments, needed, strict=True)]
        wanted = [t for t in leaves if t.requires_grad]
        total = op(*leaves, edge_index).pow(4).sum()
        for _ in range(3):
            first = torch.autograd.grad(total, wanted, create_graph=True)
            total = sum(t.square().sum() for t in first)
        results.append(first)
    assert_same(*results, TOLERANCE[torch.float64])


def test_operators_keep_the_rules_of_torch():
    op = TensorProductConv("2x0e+1x1o", "0e+1o", lmax=1, backend="cpu")
    arguments, edge_index = inputs(op, 3, 4, 5, torch.float32)
    x, sh, w = (t.contiguous().requires_grad_() for t in arguments)
    g = torch.randn(4, op.irreps_out.dim, requires_grad=True)
    order, rest = sorted_edges(edge_index, 3, 4), (op.table.spec, True)
    torch.library.opcheck(to_receivers, (x, sh, w, order, 4, *rest))
    torch.library.opcheck(to_senders, (g, sh, w, order, 3, *rest))
    torch.library.opcheck(to_edges, (x, sh, w, g, order, True, *rest))
    torch.library.opcheck(to_inputs, (g, x, sh, w, order, True, *rest))
    v = [torch.randn_like(t, requires_grad=True) for t in (x, sh, w)]
    torch.library.opcheck(to_inputs_backward, (*v, g, x, sh, w, order, [True, True, True, True], *rest))
    widths = [2, 3, op.weight_numel]
    t, *M = layers(5, widths, torch.float32)
    t, M = t.requires_grad_(), torch.cat([matrix.flatten() for matrix in M]).requires_grad_()
    torch.library.opcheck(networked, (x, sh, t, M, order, 4, widths, *rest))
    length, table = torch.rand(5, requires_grad=True), torch.randn(3, 2, op.weight_numel)
    torch.library.opcheck(splined, (x, sh, length, table, 0.5, order, 4, *rest))


def test_works_under_functional_transforms():
    op = TensorProductConv("2x0e+1x1o", "0e+1o", lmax=1, backend="cpu").double()
    (x, sh, w), edge_index = inputs(op, 3, 3, 5, torch.float64)

    def energy(x, sh, w):
        return op(x, sh, w, edge_index).square().sum()

    found = torch.func.grad(energy, argnums=(0, 1, 2))(x, sh, w)
    arguments = [t.clone().requires_grad_() for t in (x, sh, w)]
    assert_same(found, torch.autograd.grad(energy(*arguments), arguments), TOLERANCE[torch.float64])
    batch = torch.stack([x, 2 * x])
    each = torch.stack([op(y, sh, w, edge_index) for y in batch])
    torch.testing.assert_close(torch.func.vmap(lambda y: op(y, sh, w, edge_index))(batch), each)


def test_the_same_graph_is_sorted_once_and_a_changed_one_again():
    edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
    order = sorted_edges(edge_index, 3, 3)
    assert sorted_edges(edge_index, 3, 3) is order
    assert sorted_edges(edge_index, 4, 3) is not order
    edge_index[1, 0] = 2
    assert sorted_edges(edge_index, 4, 3)[3:6].tolist() == [2, 0, 1]


def test_an_edge_to_nowhere_is_explained():
    op = TensorProductConv("1x0e", "0e", lmax=0, backend="cpu")
    edge_index = torch.tensor([[0, 1], [1, 7]])
    with pytest.raises(ValueError, match="edge 1 from node 1 to node 7, but there are 2 senders and 2 receivers"):
        op(torch.ones(2, 1), torch.ones(2, 1), torch.ones(2, 1), edge_index)


@pytest.mark.parametrize("irreps_sh", ["0e+1o+2e", "2x0e+1o"])
def test_a_table_of_paths_comes_back_from_its_name(irreps_sh):
    table = PathTable(o3.Irreps("4x0e+2x1o+1x1o"), o3.Irreps(irreps_sh), lmax=1)
    again = PathTable.from_spec(table.spec)
    assert again.paths == table.paths
    assert again.irreps_out == table.irreps_out


def test_memory_is_used_again_but_never_by_two_tensors():
    large = torch.empty(1 << 21)
    first, second = memory.empty_like(large), memory.empty_like(large)
    assert first.data_ptr() != second.data_ptr()
    place, view = first.data_ptr(), first[5:].fill_(1.0)
    del first
    assert memory.empty_like(large).data_ptr() != place
    del view
    third = memory.empty_like(large)
    assert third.data_ptr() == place
    assert third.shape == large.shape
    assert memory.empty_like(torch.empty(3, 2).T).is_contiguous()


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_edges_in_memory_of_numpy_are_sorted_again_when_that_is_written(dtype):
    shared = np.array([[0, 1, 2], [1, 0, 1]], dtype=dtype)
    edge_index = torch.from_numpy(shared)
    order = sorted_edges(edge_index, 3, 3)
    assert sorted_edges(edge_index, 3, 3) is order
    shared[1, 0] = 2
    assert sorted_edges(edge_index, 3, 3)[3:6].tolist() == [2, 0, 1]


def test_what_compiled_code_cannot_take_is_explained():
    op = TensorProductConv("1x0e", "0e", lmax=0, backend="cpu")
    (x, sh, w), edge_index = inputs(op, 2, 2, 3, torch.float32)
    with pytest.raises(ValueError, match=r"must be \[N, dim\] and \[E, dim\] \(got \(1, 2, 1\), \(3, 1\)\)"):
        op(x[None], sh, w, edge_index)
    with pytest.raises(ValueError, match="'num_nodes' must not be negative"):
        op(x, sh, w, edge_index, num_nodes=-1)


def test_forward_derivatives_are_those_of_the_reference():
    op, reference = operators("2x0e+1x1o", "0e+1o", layout="mul_ir")
    arguments, edge_index = inputs(op, 3, 3, 5, torch.float64)
    along = tuple(torch.randn_like(t) for t in arguments)

    def derivative(op):
        with forward_ad.dual_level():
            dual = [forward_ad.make_dual(t, v) for t, v in zip(arguments, along, strict=True)]
            return forward_ad.unpack_dual(op(*dual, edge_index)).tangent

    assert_same([derivative(op)], [derivative(reference)], TOLERANCE[torch.float64])


@pytest.mark.parametrize("derivative", [False, True])
def test_strides_do_not_matter_to_tables(derivative):
    op = TensorProductConv("2x0e+1x1o", "0e+1o", lmax=1, backend="cpu")
    (x, sh, _), edge_index = inputs(op, 3, 3, 5, torch.float64)
    length, table = torch.rand(5, 2).double()[:, 0], torch.randn(op.weight_numel, 2, 4).double().permute(2, 1, 0)
    results = []
    for arguments in ((x, sh, length, table), (x.clone(), sh.contiguous(), length.clone(), table.contiguous())):
        length = arguments[2].requires_grad_()
        y = op.splined(*arguments, 0.4, edge_index)
        results.append(torch.autograd.grad(y, length, torch.ones_like(y).T.contiguous().T)[0] if derivative else y)
    assert torch.equal(*results)


def test_a_process_can_fork_after_threads_were_used():
    code = """
import os, torch
from pyg_relaxed.kernels import TensorProductConv
from pyg_relaxed.kernels.cpu import library
library._openmp = lambda: None
torch.set_num_threads(2)
op = TensorProductConv("8x0e", "0e", lmax=0, backend="cpu")
call = lambda: op(torch.ones(9, 8), torch.ones(40, 1), torch.ones(40, 8), torch.zeros(2, 40, dtype=torch.long))
call()
child = os.fork()
if child == 0:
    call()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("has_network", [False, True])
def test_derivatives_in_weights_are_left_out_where_nobody_asks(has_network):
    """Forces need none, and training on forces does not need those that belong to the energy."""
    op, reference = operators("2x0e+1x1o", "0e+1o")
    (x, sh, weight), edge_index = inputs(op, 4, 4, 9, torch.float64)
    network = layers(9, [3, 4, op.weight_numel])

    def training_step(op):
        leaves = [t.clone().requires_grad_() for t in ((sh, *network) if has_network else (sh, weight))]
        s, w, *M = [2 * leaf for leaf in leaves]  # no leaves themselves
        y = op.networked(x, s, w, M, edge_index) if has_network else op(x, s, w, edge_index)
        energy = y.square().sum()
        (forces,) = torch.autograd.grad(energy, leaves[:1], create_graph=True)
        return torch.autograd.grad(energy + forces.square().sum(), leaves)

    asked = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            for argument, value in zip(function._schema.arguments, args, strict=False):
                if argument.name.startswith("want_"):
                    asked.append(value)
            return function(*args, **(kwargs or {}))

    expected = training_step(reference)
    with Spy():
        found = training_step(op)
    assert_same(found, expected, TOLERANCE[torch.float64])
    assert asked[0] is False
    assert asked[-1] is True
