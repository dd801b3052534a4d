"""Tables: frames and xarray objects as arrays by role, and predictions in the same form."""

from .table import Table

__all__ = ["Table"]
