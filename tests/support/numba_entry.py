"""Compiles functions that call the CPU backend's own, which Python cannot call."""

from __future__ import annotations

import numba

__all__ = ["entry"]

entry = numba.njit(nogil=True, _nrt=False)
"""Decorate a function of compiled code for Python to call; it is compiled when first called."""
