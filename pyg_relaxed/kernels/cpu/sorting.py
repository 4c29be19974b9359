"""Edges sorted by receiver and by sender, once per graph."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .compiler import load

PART = 2048  # edges per thread whose weights are in the cache together


class Order(NamedTuple):
    """The parts of what ``sort.c`` returns."""

    sender: Tensor
    receiver: Tensor
    by_receiver: Tensor
    by_sender: Tensor
    by_part: Tensor
    receiver_ptr: Tensor
    sender_ptr: Tensor
    is_sorted: bool
    part: int

    @classmethod
    def split(cls, order: Tensor, num_edges: int, num_receivers: int) -> Order:
        """Return the parts as views."""
        sender, receiver, by_receiver, by_sender, by_part = order[: 5 * num_edges].view(5, num_edges).unbind()
        rest = order[5 * num_edges :]
        receiver_ptr, sender_ptr = rest[: num_receivers + 1], rest[num_receivers + 1 : -2]
        is_sorted, part = rest[-2:].tolist()
        return cls(sender, receiver, by_receiver, by_sender, by_part, receiver_ptr, sender_ptr, bool(is_sorted), part)


class Part:
    """Edges of consecutive receivers: their rows of an edge tensor, in the order of the sums."""

    def __init__(self, order: Order, rows: range, edges: range) -> None:
        self.rows = rows
        self.edges = edges
        self._index = None if order.is_sorted else order.by_receiver[edges.start : edges.stop]

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
    num_edges, num_rows = len(order.sender), len(order.receiver_ptr) - 1
    begins = order.part * torch.arange(num_edges // order.part + 2)
    rows = torch.searchsorted(order.receiver_ptr[:-1].contiguous(), begins).tolist()
    rows[-1] = num_rows
    edges = order.receiver_ptr[rows].tolist()
    for n in range(len(rows) - 1):
        yield Part(order, range(rows[n], rows[n + 1]), range(edges[n], edges[n + 1]))


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
