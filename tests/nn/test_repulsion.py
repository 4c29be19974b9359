import pytest
import torch

from pyg_relaxed.nn import PairRepulsion

EDGES = torch.tensor([[0, 1], [1, 0]])


def energy(repulsion, distance):
    return repulsion(distance.expand(2), torch.tensor([0, 0]), EDGES).sum()


@pytest.mark.parametrize(
    ("radius", "cutoff", "end"), [(0.7, 5.0, 1.4), (2.0, 3.5, 3.5), (2.0, 4.0, 4.0), (2.0, float("inf"), 4.0)]
)
def test_it_ends_smoothly_where_atoms_touch_or_edges_end(radius, cutoff, end, float64):
    repulsion = PairRepulsion([19], [radius], cutoff)
    for distance, is_zero in ((end - 1e-4, True), (end, True), (end + 0.1, True), (0.9 * end, False)):
        r = torch.tensor(distance, requires_grad=True)
        V = energy(repulsion, r)
        force = -torch.autograd.grad(V, r)[0]
        assert (abs(V.item()) < 1e-9) == is_zero
        assert (abs(force.item()) < 1e-4) == is_zero


def test_near_nuclei_are_screened_charges(float64):
    """At 1e-3 Å the screening is nearly one: e^2 Z^2 / (4 pi eps0 r), for each pair once."""
    V = energy(PairRepulsion([6], [0.76], 3.0), torch.tensor(1e-3))
    assert V.item() == pytest.approx(14.3996454784255 * 36 / 1e-3, rel=0.05)


def test_radii_are_one_for_each_species():
    with pytest.raises(ValueError, match=r"'radii' has 1 entries for 2 species: give one for each"):
        PairRepulsion([1, 8], [0.31])
