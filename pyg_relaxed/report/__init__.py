"""Figures and the report of a discovery. It draws what it is given and finds nothing out."""

from .page import write

__all__ = ["write"]
