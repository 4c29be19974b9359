import math
from itertools import pairwise

import pytest
import torch
from torch_geometric.data import Batch

from pyg_relaxed.datasets import fields

X, Y, Z = torch.eye(3, dtype=torch.float64)


def exact(position, velocity, E, B, times):
    """Uniform fields make the motion linear: position and velocity by the exponential of its generator."""
    generator = torch.zeros(7, 7, dtype=torch.float64)
    generator[:3, 3:6] = torch.eye(3)
    generator[3:6, 3:6] = torch.linalg.cross(torch.eye(3, dtype=torch.float64), B.expand(3, 3)).T
    generator[3:6, 6] = E
    start = torch.cat([position, velocity, torch.ones(1, dtype=torch.float64)])
    states = torch.stack([torch.linalg.matrix_exp(generator * t) @ start for t in times])
    return states[:, :3], states[:, 3:6]


def follow(E, B, velocity, steps, dt):
    start = torch.zeros(3, dtype=torch.float64)
    return fields.integrate(lambda v: fields.lorentz(v, E, B), start, velocity, steps, dt)


def test_the_lorentz_force():
    v = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(fields.lorentz(v, 0 * X, Y) @ Y, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(fields.lorentz(X, 0 * X, Y), Z)  # x cross y is z, for a positive charge
    torch.testing.assert_close(fields.lorentz(v, X, 0 * Y), X.expand(4, 3))


def test_the_integrator_is_of_fourth_order():
    E, B, velocity = X + 0.3 * Z, Y - 0.2 * X, torch.tensor([0.3, 0.5, -0.2], dtype=torch.float64)
    end = 8.0
    errors = []
    for n in (40, 80, 160):
        position, speed = follow(E, B, velocity, n + 1, end / n)
        true_position, true_speed = exact(torch.zeros(3, dtype=torch.float64), velocity, E, B, [end])
        errors.append((position[-1] - true_position[0]).norm() + (speed[-1] - true_speed[0]).norm())
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders == pytest.approx([4, 4], abs=0.1)


@pytest.mark.parametrize("dt", [0.05, 0.1, 0.2])
def test_a_magnetic_field_takes_energy_only_to_the_stated_order(dt):
    speed = follow(0 * X, Y, X + Y + Z, 501, dt)[1]
    across = speed[:, [0, 2]].norm(dim=1)  # the velocity along B is left alone
    torch.testing.assert_close(speed[:, 1], torch.ones(501, dtype=torch.float64), rtol=1e-14, atol=0)
    lost = 1 - across[-1] / across[0]
    assert lost == pytest.approx(500 * dt**6 / 144, rel=0.05)


def test_energy_in_both_fields():
    position, velocity = follow(X, Y, torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64), 500, 0.1)
    energy = velocity.square().sum(1) / 2 - position @ X
    assert (energy - energy[0]).abs().max() < 1e-5


def test_the_drift_is_e_cross_b():
    turns, per_turn = 5, 80
    E, B = 0.7 * X, 2.0 * Y
    dt = 2 * math.pi / 2.0 / per_turn
    position, _ = follow(E, B, torch.tensor([0.2, 0.0, 0.4], dtype=torch.float64), turns * per_turn + 1, dt)
    drift = (position[-1] - position[0]) / (turns * per_turn * dt)
    torch.testing.assert_close(drift, 0.35 * Z, rtol=0, atol=1e-6)  # |E| / |B| along E x B


def test_trajectories(float64):
    trajectories = fields.charged_particle(starts=3, steps=200, dt=0.1)
    assert len(trajectories) == 3
    for trajectory in trajectories:
        assert trajectory.num_nodes == 200
        torch.testing.assert_close(trajectory.y, X + torch.linalg.cross(trajectory.x, Y.expand(200, 3)))
        assert ((trajectory.pos[0] >= 0) & (trajectory.pos[0] <= 1)).all()
        assert (trajectory.x[0] - trajectory.pos[0]).abs().max() > 1e-3  # a velocity is no position
        true_position, true_velocity = exact(trajectory.pos[0], trajectory.x[0], X, Y, trajectory.time)
        assert (trajectory.pos - true_position).abs().max() < 1e-4
        assert (trajectory.x - true_velocity).abs().max() < 1e-4
    batch = Batch.from_data_list(trajectories)
    assert batch.x.shape == batch.pos.shape == batch.y.shape == (600, 3)
    assert batch.edge_index.shape == (2, 0)


def test_one_start_does_not_determine_the_fields(float64):
    trajectories = fields.charged_particle(starts=5)
    for number, rank in ((1, 3), (5, 4)):
        v = torch.cat([trajectory.x for trajectory in trajectories[:number]])
        assert torch.linalg.matrix_rank(torch.cat([torch.ones(len(v), 1), v], dim=1), rtol=1e-9) == rank


def test_seeds():
    before = torch.get_rng_state()
    first, again, other = (fields.charged_particle(starts=1, steps=3, seed=seed)[0].x for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.dtype == torch.float32


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match=r"'electric' must be three finite numbers.*\(got \(1.0, 0.0\)\)"):
        fields.charged_particle(electric=(1.0, 0.0))
    with pytest.raises(ValueError, match="'magnetic' must be three finite numbers"):
        fields.charged_particle(magnetic=(0.0, math.nan, 0.0))
    with pytest.raises(ValueError, match=r"'starts' must be 1 or more \(got 0\)"):
        fields.charged_particle(starts=0)
    with pytest.raises(ValueError, match=r"'steps' must be 1 or more.*\(got 0\)"):
        fields.charged_particle(steps=0)
    with pytest.raises(ValueError, match=r"'dt' must be a positive, finite time \(got -0.1\)"):
        fields.charged_particle(dt=-0.1)
