"""Constants of modules that are exact in every dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ExactConstants(torch.nn.Module):
    """A module with constants, which an ordinary buffer would leave rounded to float32 after ``.double()``.

    Example::

        >>> module = ExactConstants()
        >>> module.register_constant("third", torch.tensor(1 / 3, dtype=torch.float64))
        >>> module.double().third.item() == 1 / 3
        True
    """

    _exact: dict[str, Tensor]

    def register_constant(self, name: str, value: Tensor, stays: bool = False) -> None:
        """Register a constant given in float64: a buffer in the default dtype that is not saved.

        With ``stays`` it remains in float64 whatever the module is converted to.
        """
        self.__dict__.setdefault("_exact", {})[name] = value
        if stays:
            self.__dict__.setdefault("_staying", set()).add(name)
        self.register_buffer(name, value if stays else value.to(torch.get_default_dtype()), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> ExactConstants:
        before = {name: self._buffers[name] for name in self.__dict__.get("_exact", {})}
        super()._apply(fn, *args, **kwargs)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and (old.is_meta or old.dtype != new.dtype):
                stays = name in self.__dict__.get("_staying", ())
                self._buffers[name] = self._exact[name].to(new.device if stays else new)
        return self
