"""What follows from a problem and the number of its steps that exist: the products of a call, and their memory."""

from __future__ import annotations

from functools import cached_property

from rnn_gpu.kernels.cupy_raw.device import Matrix, Product
from rnn_gpu.kernels.cupy_raw.plan import Plan
from rnn_gpu.problem import Problem

__all__ = ["Shapes"]


class Shapes:
    """The products over N steps, each made when it is first asked for.

    Axis letters: I, H, G, S as everywhere; N steps, K stages.
    """

    def __init__(self, problem: Problem, plan: Plan, N: int) -> None:
        self._problem, self._kept, self._tf32, self._N = problem, plan.kept, plan.tf32, N

    def _matrix(self, rows: int, columns: int) -> Matrix:
        return Matrix(rows, columns, columns, self._kept)

    @cached_property
    def d_P(self) -> Matrix:
        """The gradients of the input's products, [N, G*H]."""
        return self._matrix(self._N, len(self._problem.cell.input_gates) * self._problem.H)

    @cached_property
    def d_R(self) -> Matrix:
        """Those of the recurrent products, [N, S*H]."""
        return self._matrix(self._N, len(self._problem.cell.recurrent_gates) * self._problem.H)

    @cached_property
    def operands(self) -> Matrix:
        """What the stages multiplied, [N, K*H]."""
        return self._matrix(self._N, len(self._problem.cell.stages) * self._problem.H)

    @cached_property
    def _x(self) -> Matrix:
        return self._matrix(self._N, self._problem.I)

    @cached_property
    def _w_ih(self) -> Matrix:
        return self._matrix(self.d_P.columns, self._problem.I)

    @cached_property
    def bytes(self) -> tuple[int, int, int]:
        """Of dP, of dR, 0 where it equals dP, and of the stages' operands."""
        made = (self.d_P, self.d_R, self.operands)
        d_P, d_R, operands = [each.rows * each.columns * each.dtype.itemsize for each in made]
        return d_P, 0 if self._problem.cell.program.same_gradients else d_R, operands

    @cached_property
    def P(self) -> Product:
        """x W^T [N, G*H], in the working type."""
        columns = self.d_P.columns
        return Product(self._x, self._w_ih.T, Matrix(self._N, columns, columns, self._problem.real), self._tf32)

    @cached_property
    def dU(self) -> tuple[Product, ...]:
        """dR^T operands [S*H, H], the rows of each stage."""
        H, begin, products = self._problem.H, 0, []
        whole = self._matrix(self.d_R.columns, H)
        for k, gates in enumerate(self._problem.cell.stages):
            count = len(gates) * H
            gradients, factors = self.d_R.block(0, self._N, begin, count), self.operands.block(0, self._N, k * H, H)
            products.append(Product(gradients.T, factors, whole.block(begin, count), self._tf32))
            begin += count
        return tuple(products)

    @cached_property
    def dW(self) -> Product:
        """dP^T x [G*H, I]."""
        return Product(self.d_P.T, self._x, self._w_ih, self._tf32)

    @cached_property
    def dx(self) -> Product:
        """dP W [N, I]."""
        return Product(self.d_P, self._w_ih, self._x, self._tf32)
