"""Edges sorted on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cpu.sorting import PART, missing_node, sort_edges


@sort_edges.register_kernel("cuda")
def sort(edge_index: Tensor, num_senders: int, num_receivers: int, part: int = PART) -> Tensor:
    """Return what ``sort.c`` describes, from torch's stable sorts."""
    edge_index = edge_index.to(torch.long)
    sender, receiver = edge_index
    wrong = (sender < 0) | (sender >= num_senders) | (receiver < 0) | (receiver >= num_receivers)
    if wrong.any():
        raise missing_node(edge_index, int(wrong.nonzero()[0]), num_senders, num_receivers)
    by_receiver, receiver_ptr = _by_node(receiver, num_receivers)
    by_sender, sender_ptr = _by_node(sender, num_senders)
    place = torch.empty_like(by_receiver)
    place[by_receiver] = torch.arange(len(place), device=place.device)
    parts = receiver_ptr[receiver[by_sender]] // part
    by_part = place[by_sender][torch.argsort(parts, stable=True)]
    is_sorted = (by_receiver[1:] > by_receiver[:-1]).all().to(torch.long).view(1)
    size = torch.full_like(is_sorted, part)
    ends = (sender, receiver, by_receiver, by_sender, by_part)
    return torch.cat([*ends, receiver_ptr, sender_ptr, is_sorted, size])


def _by_node(node: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    node, order = torch.sort(node, stable=True)
    return order, torch.searchsorted(node, torch.arange(num_nodes + 1, device=node.device))
