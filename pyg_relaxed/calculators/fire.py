"""FIRE, for several structures at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..checks import check_positive


@dataclass(frozen=True)
class FireState:
    """Where each of several structures is on its way; made and changed by :class:`Fire`.

    Args:
        sizes: Rows of each structure, shape ``[B]``.
        velocity: Shape ``[R, 3]``, the rows of one structure after those of another.
        dt: Time steps, shape ``[B]``.
        alpha: How much of the velocity is turned along the force, shape ``[B]``.
        since: Steps since it last went uphill, shape ``[B]``; -1 before the first.
    """

    sizes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    velocity: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    dt: np.ndarray = field(default_factory=lambda: np.zeros(0))
    alpha: np.ndarray = field(default_factory=lambda: np.zeros(0))
    since: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def keep(self, stays: Sequence[bool] | np.ndarray) -> FireState:
        """Return the state without the structures that leave.

        Args:
            stays: Shape ``[B]``.
        """
        stays = np.asarray(stays, dtype=bool)
        return FireState(
            self.sizes[stays],
            self.velocity[np.repeat(stays, self.sizes)],
            self.dt[stays],
            self.alpha[stays],
            self.since[stays],
        )


@dataclass(frozen=True)
class Fire:
    r"""FIRE (E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), steps F1 to F4), as ``ase.optimize.FIRE`` has it.

    Each structure has a time step and an :math:`\alpha` of its own, and goes the way it would go alone. As in ASE a
    step is :math:`v \leftarrow v + \Delta t\, F` (after F1 to F4, with all masses 1), then
    :math:`x \leftarrow x + \Delta t\, v`, of which all together is no longer than ``max_step``.

    Args:
        dt: First time step, in ASE's units.
        dt_max: Longest time step.
        max_step: Longest step of a structure, the norm over all its rows, Å.
        num_min: Steps downhill before the time step grows.
        f_inc: By how much it grows.
        f_dec: By how much it shrinks after a step uphill.
        alpha: First :math:`\alpha`.
        f_alpha: By how much it shrinks while the time step grows.

    Raises:
        ValueError: If one of them is not positive.

    Example:
        >>> fire = Fire()
        >>> state, step = fire.step(fire.join(FireState(), [1, 2]), np.ones((3, 3)))
        >>> step.round(3).tolist()
        [[0.01, 0.01, 0.01], [0.01, 0.01, 0.01], [0.01, 0.01, 0.01]]
    """

    dt: float = 0.1
    dt_max: float = 1.0
    max_step: float = 0.2
    num_min: int = 5
    f_inc: float = 1.1
    f_dec: float = 0.5
    alpha: float = 0.1
    f_alpha: float = 0.99

    def __post_init__(self) -> None:
        for name in ("dt", "dt_max", "max_step", "f_inc", "f_dec", "alpha", "f_alpha"):
            check_positive(name, getattr(self, name))

    def join(self, state: FireState, sizes: Sequence[int]) -> FireState:
        """Return the state with structures that enter at its end, at rest.

        Args:
            state: Of those under way.
            sizes: Rows of each new one.
        """
        B = len(sizes)
        return FireState(
            np.append(state.sizes, np.asarray(sizes, dtype=np.int64)),
            np.vstack([state.velocity, np.zeros((sum(sizes), 3))]),
            np.append(state.dt, np.full(B, self.dt)),
            np.append(state.alpha, np.full(B, self.alpha)),
            np.append(state.since, np.full(B, -1)),
        )

    def step(self, state: FireState, forces: np.ndarray) -> tuple[FireState, np.ndarray]:
        """Return the state after a step, and the step.

        Args:
            state: Before it.
            forces: On all rows, shape ``[R, 3]``.
        """
        begins = np.cumsum(state.sizes) - state.sizes

        def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.add.reduceat((a * b).sum(axis=1), begins)

        def on_rows(values: np.ndarray) -> np.ndarray:
            return np.repeat(values, state.sizes)[:, None]

        power = dot(forces, state.velocity)  # F1
        is_new, is_downhill = state.since < 0, power > 0
        with np.errstate(divide="ignore", invalid="ignore"):  # where it is not downhill
            turned = state.alpha * np.sqrt(dot(state.velocity, state.velocity) / dot(forces, forces))
        turned = np.where(is_downhill, turned, 0.0)
        keeps = np.where(is_downhill, 1 - state.alpha, 0.0)
        velocity = on_rows(keeps) * state.velocity + on_rows(turned) * forces  # F2, and the stop of F4
        grows = is_downhill & (state.since > self.num_min)
        dt = np.where(grows, np.minimum(state.dt * self.f_inc, self.dt_max), state.dt)  # F3
        alpha = np.where(grows, state.alpha * self.f_alpha, state.alpha)
        dt = np.where(is_downhill | is_new, dt, state.dt * self.f_dec)  # F4
        alpha = np.where(is_downhill | is_new, alpha, self.alpha)
        velocity += on_rows(dt) * forces
        step = on_rows(dt) * velocity
        length = np.sqrt(dot(step, step))
        step *= on_rows(self.max_step / np.maximum(length, self.max_step))
        since = np.where(is_downhill, state.since + 1, 0)
        return replace(state, velocity=velocity, dt=dt, alpha=alpha, since=since), step
