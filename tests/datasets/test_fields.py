"""The particle moves as physics says."""

import math

import pytest
import torch

from pyg_relaxed.datasets import fields
from pyg_relaxed.o3 import representation
from pyg_relaxed.symmetry import point_group

pytestmark = pytest.mark.usefixtures("float64")


def circle(dt):
    """Two turns in B along z from a start at rest at the origin: the error of the place, and of the energy."""
    steps = round(4 * math.pi / dt) + 1
    B, start = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.5])
    positions, velocities = fields.integrate(
        lambda v: fields.lorentz(v, torch.zeros(3), B), torch.zeros(3), start, steps, dt
    )
    t = torch.arange(steps) * dt
    exact = torch.stack([t.sin(), t.cos() - 1, 0.5 * t], dim=1)
    return (positions - exact).abs().max().item(), (velocities.norm(dim=1) - start.norm()).abs().max().item()


def test_the_integrator_is_of_the_order_it_says():
    (coarse, energy_coarse), (fine, energy_fine) = circle(2 * math.pi / 50), circle(2 * math.pi / 100)
    assert coarse / fine == pytest.approx(2**4, rel=0.1)
    assert energy_coarse / energy_fine == pytest.approx(2**5, rel=0.1)
    assert energy_fine < 1e-5


def test_in_crossed_fields_the_mean_motion_is_the_drift():
    """E x B / B^2, whatever the start, besides what is constant along B."""
    for data in fields.charged_particle(starts=3, steps=2001, dt=2 * math.pi / 100):
        drift = (data.pos[-1] - data.pos[0]) / (data.time[-1] - data.time[0])
        torch.testing.assert_close(drift, torch.tensor([0.0, data.x[0, 1], 1.0]), rtol=0, atol=1e-4)


def test_velocities_and_accelerations_belong_together():
    E, B = torch.tensor([0.2, -1.0, 0.3]), torch.tensor([0.5, 0.1, 2.0])
    for data in fields.charged_particle(starts=2, steps=50, electric=E.tolist(), magnetic=B.tolist()):
        torch.testing.assert_close(data.y, fields.lorentz(data.x, E, B))
        slope = (data.x[2:] - data.x[:-2]) / 0.2
        torch.testing.assert_close(slope, data.y[1:-1], rtol=0, atol=0.05)


@pytest.mark.parametrize("group", ["m-3m", "6/mmm"])
def test_e_is_a_polar_and_b_an_axial_vector(group):
    v, E, B = torch.randn(3, 3)
    for R in torch.as_tensor(point_group(group).operations):
        axial = representation("1e", R)
        torch.testing.assert_close(fields.lorentz(R @ v, R @ E, axial @ B), R @ fields.lorentz(v, E, B))
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]))
    assert not torch.allclose(
        fields.lorentz(mirror @ v, mirror @ E, mirror @ B), mirror @ fields.lorentz(v, E, B), atol=1e-3
    )


def test_the_seed_is_all_that_chance_depends_on():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again = (fields.charged_particle(starts=1, steps=2, seed=3)[0] for _ in range(2))
    other = fields.charged_particle(starts=1, steps=2, seed=4)[0]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    assert not torch.equal(first.x[0], first.pos[0])  # a start has a velocity of its own


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, "'starts' must be 1 or more"),
        ({"steps": 0}, "'steps' must be 1 or more"),
        ({"dt": 0.0}, "'dt' must be a positive"),
        ({"electric": (1.0, 2.0)}, "'electric' must be three finite numbers"),
        ({"magnetic": (1.0, 2.0, math.nan)}, "'magnetic' must be three finite numbers"),
    ],
)
def test_bad_input_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        fields.charged_particle(**options)
