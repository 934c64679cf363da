"""Errors of compiled functions across the plain C calls between them: what Numba raises is passed on as an address.

A C function here returns 0, or where Numba's description of the exception lies; it lives as long as the code. Who calls
it raises the exception again, or hands the address on to who can.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC, Status, excinfo_t
from numba.extending import intrinsic

__all__ = ["OK", "failure_of", "raise_again", "raise_failure"]

OK = 0
"""What a C function returns that has not failed."""

_ADDRESS = ir.IntType(64)


def failure_of(builder: Any, status: Any) -> Any:
    """What a C function returns after a call of compiled code that ended with `status`."""
    return builder.select(status.is_error, builder.ptrtoint(status.excinfoptr, _ADDRESS), ir.Constant(_ADDRESS, OK))


def raise_failure(context: Any, builder: Any, failure: Any) -> None:
    """Leave the function that is being built, with the exception of `failure`, unless that is OK."""
    yes, no = ir.Constant(ir.IntType(1), 1), ir.Constant(ir.IntType(1), 0)
    with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, failure)):
        status = Status(
            code=RETCODE_USEREXC, is_ok=no, is_none=no, is_error=yes, is_stop_iteration=no, is_python_exc=no,
            is_user_exc=yes, excinfoptr=builder.inttoptr(failure, excinfo_t.as_pointer()),
        )  # fmt: skip
        context.call_conv.return_status_propagate(builder, status)


@intrinsic
def raise_again(typing: Any, failure: Any) -> Any:
    """Raise what a C function's result tells of, if it does."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        raise_failure(context, builder, values[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate
