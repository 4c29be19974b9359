"""Edges sorted by receiver and by sender, once per graph."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .compiler import load

PART = 2048  # edges per thread whose weights are in the cache together


class Order:
    """The order of the edges of a graph as ``sort.c`` writes it, and where in memory its columns begin.

    Args:
        order (Tensor): What :func:`sorted_edges` returns.
        num_edges (int): Number of edges.
        num_receivers (int): Number of receivers.
    """

    def __init__(self, order: Tensor, num_edges: int, num_receivers: int) -> None:
        self.tensor, self.num_edges, self.num_receivers = order, num_edges, num_receivers
        begin, column = order.data_ptr(), num_edges * order.itemsize
        self.sender, self.receiver, self.by_receiver, self.by_sender, self.by_part, self.receiver_ptr = (
            begin + n * column for n in range(6)
        )
        self.sender_ptr = self.receiver_ptr + (num_receivers + 1) * order.itemsize


class Part:
    """Edges of consecutive receivers: their rows of an edge tensor, in the order of the sums."""

    def __init__(self, rows: range, edges: range, index: Tensor | None) -> None:
        self.rows = rows
        self.edges = edges
        self._index = index

    def take(self, tensor: Tensor) -> Tensor:
        """Return the rows of this part."""
        if self._index is None:
            return tensor[self.edges.start : self.edges.stop]
        return tensor.index_select(0, self._index)

    def target(self, tensor: Tensor) -> Tensor:
        """Return memory to write the rows of this part to, before they are :meth:`put`."""
        return self.take(tensor) if self._index is None else tensor.new_empty(len(self.edges), *tensor.shape[1:])

    def put(self, tensor: Tensor, rows: Tensor) -> None:
        """Write the rows of this part, which are there already if they follow each other."""
        if self._index is not None:
            tensor.index_copy_(0, self._index, rows)


def parts_of(order: Order) -> Iterator[Part]:
    """Yield the parts of ``sort.c``: receivers whose edges begin within the same multiple of its ``part``."""
    by_receiver = order.tensor[2 * order.num_edges : 3 * order.num_edges]
    is_sorted, ranges = _ranges_of(order)
    for rows, edges in ranges:
        yield Part(rows, edges, None if is_sorted else by_receiver[edges.start : edges.stop])


def _ranges_of(order: Order) -> tuple[bool, list[tuple[range, range]]]:
    """Return whether edges are sorted and the rows and edges of each part, found once for each order."""
    known = _ranges.get(order.tensor)
    if known is None:
        E, N = order.num_edges, order.num_receivers
        is_sorted, size = order.tensor[-2:].tolist()
        receiver_ptr = order.tensor[5 * E : 5 * E + N + 1]
        rows = torch.searchsorted(receiver_ptr[:-1], size * torch.arange(E // size + 2)).tolist()
        rows[-1] = N
        edges = receiver_ptr[rows].tolist()
        known = (
            bool(is_sorted),
            [(range(*r), range(*e)) for r, e in zip(pairwise(rows), pairwise(edges), strict=True)],
        )
        _ranges[order.tensor] = known
    return known


_ranges = WeakTensorKeyDictionary()  # order -> is it sorted, ranges of its parts
_known = WeakTensorKeyDictionary()  # edge_index -> (what the order depends on, order)


def sorted_edges(edge_index: Tensor, num_senders: int, num_receivers: int) -> Tensor:
    """Return the order of the edges that the sums run in, as ``sort.c`` describes it; the same graph is sorted once.

    Args:
        edge_index (Tensor): Senders and receivers, ``[2, E]``.
        num_senders (int): Number of nodes that messages come from.
        num_receivers (int): Number of nodes that messages go to.

    Raises:
        ValueError: If an edge names a node that does not exist.
    """
    if torch.compiler.is_compiling() or edge_index.is_inference():
        return sort_edges(edge_index, num_senders, num_receivers)
    place = (edge_index.data_ptr(), edge_index.shape)
    state = (edge_index._version, place, num_senders, num_receivers, torch.get_num_threads())
    known = _known.get(edge_index)
    if known is None or known[0] != state or not _is_unwritten(edge_index, known[1]):
        with torch.inference_mode(False):  # what is kept may be saved for backward
            known = (state, sort_edges(edge_index, num_senders, num_receivers))
        _known[edge_index] = known
    return known[1]


def _is_unwritten(edge_index: Tensor, order: Tensor) -> bool:
    """Tell whether memory that others write to, of an array of numpy or shared, still has the edges that were sorted.

    Of torch's own memory the version is enough, unless it is written through ``.data``.
    """
    if edge_index.untyped_storage().resizable() and not edge_index.is_shared():
        return True
    return order[: edge_index.numel()].equal(edge_index.flatten().to(order.dtype))


@torch.library.custom_op("pyg_relaxed::sort_edges", mutates_args=(), device_types="cpu")
def sort_edges(edge_index: Tensor, num_senders: int, num_receivers: int) -> Tensor:
    """Sort the edges of a graph: the operation behind :func:`sorted_edges`."""
    edge_index = edge_index.to(torch.long).contiguous()
    order = edge_index.new_empty(_length(edge_index, num_senders, num_receivers))
    edges = edge_index.shape[1]
    wrong = _library().sort(
        edge_index.data_ptr(), edges, num_senders, num_receivers, PART * torch.get_num_threads(), order.data_ptr()
    )
    if wrong >= 0:
        raise missing_node(edge_index, wrong, num_senders, num_receivers)
    return order


def missing_node(edge_index: Tensor, edge: int, num_senders: int, num_receivers: int) -> ValueError:
    """Return the error that an edge from or to a node that does not exist deserves."""
    return ValueError(
        f"'edge_index' sends edge {edge} from node {edge_index[0, edge]} to node {edge_index[1, edge]}, "
        f"but there are {num_senders} senders and {num_receivers} receivers"
    )


@sort_edges.register_fake
def _(edge_index: Tensor, num_senders: int, num_receivers: int) -> Tensor:
    return edge_index.new_empty(_length(edge_index, num_senders, num_receivers), dtype=torch.long)


def _length(edge_index: Tensor, num_senders: int, num_receivers: int) -> int:
    return 5 * edge_index.shape[1] + num_receivers + 1 + num_senders + 1 + 2


@functools.lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = load(Path(__file__).with_name("sort.c").read_text(encoding="utf-8"))
    library.sort.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 4, ctypes.c_void_p]
    library.sort.restype = ctypes.c_int64
    return library
