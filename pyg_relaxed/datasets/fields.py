r"""A charged particle in uniform electric and magnetic fields, which break every rotation but the network sees neither.

The task of `arXiv 2407.20471 <https://arxiv.org/abs/2407.20471>`_. Charge and mass are 1, so that the Lorentz force is

.. math:: \dot v = E + v \times B

and nothing has a unit: a time of :math:`2 \pi / |B|` is one turn. E is a polar vector (1o), B an axial one (1e).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data


def lorentz(velocity: Tensor, electric: Tensor, magnetic: Tensor) -> Tensor:
    """Return the acceleration ``E + v x B``, shape ``[..., 3]``, of a particle of charge and mass 1.

    Args:
        velocity: Shape ``[..., 3]``.
        electric: The field E, shape ``[3]``.
        magnetic: The field B, shape ``[3]``.

    Example:
        >>> x, y, z = torch.eye(3)
        >>> lorentz(z, electric=x, magnetic=y)  # at the drift velocity E x B / B^2 the forces cancel
        tensor([0., 0., 0.])
    """
    return electric + torch.linalg.cross(velocity, magnetic.expand_as(velocity))


def integrate(
    acceleration: Callable[[Tensor], Tensor], position: Tensor, velocity: Tensor, steps: int, dt: float
) -> tuple[Tensor, Tensor]:
    r"""Follow particles whose acceleration depends on their velocity alone, by the classical Runge-Kutta method.

    It is of fourth order: positions and velocities at a given time err by :math:`O(\mathrm{dt}^4)`. In a magnetic field
    alone a step shortens the velocity by a part :math:`(|B|\,\mathrm{dt})^6 / 144`, where Euler's lengthens it by
    :math:`(|B|\,\mathrm{dt})^2 / 2`, so that a circle becomes a widening spiral.

    Args:
        acceleration: Function from velocities ``[..., 3]`` to accelerations ``[..., 3]``.
        position: At the start, shape ``[..., 3]``.
        velocity: At the start, shape ``[..., 3]``.
        steps: Number of instants to return, the start among them.
        dt: Time between two instants.

    Returns:
        Positions and velocities, shape ``[steps, ..., 3]`` each.

    Raises:
        ValueError: For fewer than one step, and for a time step that is not positive and finite.

    Example:
        >>> at_rest, fall = torch.zeros(3), lambda velocity: torch.tensor([0.0, 0.0, -1.0])
        >>> integrate(fall, at_rest, at_rest, steps=3, dt=1.0)[0][:, 2]
        tensor([ 0.0000, -0.5000, -2.0000])
    """
    if steps < 1:
        raise ValueError(f"'steps' must be 1 or more, the start among them (got {steps})")
    if not 0 < dt < math.inf:
        raise ValueError(f"'dt' must be a positive, finite time (got {dt})")
    positions, velocities = [position], [velocity]
    for _ in range(steps - 1):
        x, v1 = positions[-1], velocities[-1]
        a1 = acceleration(v1)
        v2 = v1 + dt / 2 * a1
        a2 = acceleration(v2)
        v3 = v1 + dt / 2 * a2
        a3 = acceleration(v3)
        v4 = v1 + dt * a3
        a4 = acceleration(v4)
        positions.append(x + dt / 6 * (v1 + 2 * v2 + 2 * v3 + v4))
        velocities.append(v1 + dt / 6 * (a1 + 2 * a2 + 2 * a3 + a4))
    return torch.stack(positions), torch.stack(velocities)


def charged_particle(
    starts: int = 10,
    steps: int = 500,
    dt: float = 0.1,
    electric: Sequence[float] = (1.0, 0.0, 0.0),
    magnetic: Sequence[float] = (0.0, 1.0, 0.0),
    seed: int = 0,
) -> list[Data]:
    """Return the motion of a particle from random starts, one graph each, in torch's default dtype.

    Positions and velocities of the starts are uniform between 0 and 1. Only E pushes along B: where the two are
    perpendicular, that component of the velocity is constant on a trajectory, and one start cannot tell E from a
    response to it.

    Args:
        starts: Number of trajectories.
        steps: Instants on each.
        dt: Time between two instants; :func:`integrate` follows the motion.
        electric: The field E.
        magnetic: The field B.
        seed: Of the starts; torch's global generator is left alone.

    Returns:
        Graphs whose nodes are the instants, without edges: ``x`` velocities ``[steps, 3]`` (1o), ``y`` accelerations
        ``[steps, 3]`` (1o), ``pos`` positions ``[steps, 3]``, ``time`` ``[steps]``, ``edge_index`` ``[2, 0]``.

    Raises:
        ValueError: For fields that are not three finite numbers, for fewer than one start or step, and for a time step
            that is not positive and finite.

    Example:
        >>> trajectories = charged_particle(starts=2, steps=100)
        >>> trajectories[0]
        Data(x=[100, 3], edge_index=[2, 0], y=[100, 3], pos=[100, 3], time=[100])
    """
    if starts < 1:
        raise ValueError(f"'starts' must be 1 or more (got {starts})")
    E, B = _field("electric", electric), _field("magnetic", magnetic)
    generator = torch.Generator().manual_seed(seed)
    position, velocity = torch.rand(2, starts, 3, generator=generator, dtype=torch.float64)
    positions, velocities = integrate(lambda v: lorentz(v, E, B), position, velocity, steps, dt)
    accelerations = lorentz(velocities, E, B)
    time = torch.arange(steps, dtype=torch.float64) * dt
    dtype, no_edges = torch.get_default_dtype(), torch.empty(2, 0, dtype=torch.int64)
    return [
        Data(
            x=velocities[:, i].to(dtype),
            edge_index=no_edges,
            y=accelerations[:, i].to(dtype),
            pos=positions[:, i].to(dtype),
            time=time.to(dtype),
        )
        for i in range(starts)
    ]


def _field(name: str, value: Sequence[float]) -> Tensor:
    field = torch.as_tensor(value, dtype=torch.float64)
    if field.shape != (3,) or not field.isfinite().all():
        raise ValueError(f"'{name}' must be three finite numbers, a field along x, y and z (got {value})")
    return field
