"""Types of the public surface."""

from __future__ import annotations

from typing import TypeAlias

from .compat import o3

Irreps: TypeAlias = o3.Irreps
IrrepsLike: TypeAlias = "o3.Irreps | str"
ThetaLike: TypeAlias = "o3.Irreps | str | int | None"
