"""Cells that no paper has: each goes into a corner of the compiler that its docstring names."""

from __future__ import annotations

from rnn_gpu.compiler.language import (
    cell,
    clip,
    cos,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    where,
)

__all__ = ["UNUSUAL"]


@cell(gates=("forget_gate", "candidate"), states=("hidden", "memory"), vectors=("leak_rate",), forget="forget_gate")
def words(Wx, U, hidden, memory, v):
    """Names of several letters."""
    kept = sigmoid(Wx.forget_gate + U.forget_gate(hidden)) * memory
    memory = kept + v.leak_rate * tanh(Wx.candidate + U.candidate(kept))
    return tanh(memory), memory


@cell(gates="g", states="hc")
def constant_state(Wx, U, h, c):
    """A state that is returned as it came."""
    return tanh(Wx.g + U.g(h) * c), c


@cell(gates="g", states="ab")
def swapped(Wx, U, a, b):
    """A state that is another's old value."""
    return tanh(Wx.g + U.g(b)), a


@cell(gates="g", states="ab")
def twice(Wx, U, a, b):
    """Two states that are one value."""
    new = tanh(Wx.g + U.g(a) - b / 2)
    return new, new


@cell(gates="xu", states="h")
def one_sided(Wx, U, h):
    """A gate with an input product only, and one with a recurrent product only."""
    return sin(Wx.x) + tanh(U.u(h))


@cell(gates="g", states="h")
def linear(Wx, U, h):
    """The gradient of the product is that of the new state itself, and there is nothing to compute for it."""
    return Wx.g + U.g(h)


@cell(gates="g", states="hc")
def projected_state(Wx, U, h, c):
    """A state that is a product, another that is an input, and a state that nothing reads."""
    return U.g(h), Wx.g


@cell(gates="ab", states="h")
def product_of_a_product(Wx, U, h):
    """An operand that is itself a product."""
    return softplus(Wx.b + U.b(U.a(h)))


@cell(gates="ab", states="h")
def product_of_an_input(Wx, U, h):
    """An operand that is an input."""
    return h * tanh(U.a(Wx.b)) + Wx.a


@cell(gates="ghk", states="hc")
def unreached(Wx, U, h, c):
    """Products with no gradient: one whose whole stage has none, and one whose stage has."""
    step = sign(U.g(c)) + sign(U.h(h))
    return tanh(Wx.g + step * U.k(h)), c + sign(Wx.h) * h


@cell(gates="g", states="h")
def signed_operand(Wx, U, h):
    """No gradient comes to the operand."""
    return tanh(Wx.g + U.g(sign(h)))


@cell(gates="rzns", states="h")
def three_stages(Wx, U, h):
    """Two operands that are computed, and values that later functions read."""
    r = sigmoid(Wx.r + U.r(h))
    z = sigmoid(Wx.z + U.z(h))
    n = tanh(Wx.n + U.n(r * h))
    s = tanh(Wx.s + U.s(z * h - n))
    return (1 - z) * s + z * h


@cell(gates="ab", states="hc")
def early_operand(Wx, U, h, c):
    """The second stage's operand does not wait for the first stage."""
    a = U.a(h)
    b = U.b(exp(-c * c))
    return tanh(a * b + Wx.a), cos(b) - Wx.b


@cell(gates=("a", "b", "ab"), states="hc")
def stage_names(Wx, U, h, c):
    """Stages whose gates, written one after the other, are the same word."""
    return tanh(Wx.a + U.a(h) * U.b(h)), tanh(Wx.ab + U.ab(c) + Wx.b)


@cell(gates="gk", states="h")
def saved_comparison(Wx, U, h):
    """A condition that the backward pass needs, on values that it has no other use for."""
    return where(U.g(h) > Wx.k, tanh(Wx.g), h * h)


@cell(gates="gk", states="h", vectors=("a",))
def constant_operand(Wx, U, h, v):
    """An operand that is the same for every row."""
    return tanh(Wx.g + U.g(exp(v.a)) + U.k(h))


@cell(gates="x", states="h", vectors={"decay": (0.5, 1.0)})
def no_products(Wx, U, h, v):
    """No stage at all."""
    return relu(Wx.x) + sqrt(v.decay) * h


@cell(gates="dx", states="h")
def names_in_use(Wx, U, h):
    """Local variables with names that emitted source has for something else."""
    U_x = sigmoid(Wx.d + U.d(h))
    dh_out = U_x * h
    T = tanh(Wx.x + U.x(dh_out))
    real = T * U_x
    do = real - h
    unit = do * do
    state = unit + T
    h_new = state * real
    return tanh(h_new) + state / (1 + unit)


@cell(gates="abc", states="hm", vectors=("p", "q"))
def every_operation(Wx, U, h, m, v):
    """Every operation of the language, and constants that no binary fraction is equal to."""
    a = sqrt(1.1 + (Wx.a + U.a(h)) ** 2) - abs(v.p * h)
    b = log(1 + exp(-a)) + softplus(Wx.b + U.b(a - 0.3)) * sin(v.q) - cos(m) / 3
    c = maximum(minimum(a, b), clip(U.c(h), -0.7, 0.9)) * +Wx.c
    m = where(a >= b, sigmoid(c) - m, where(m < 0.1, relu(a), -b)) + sign(c) * 1e-3
    return tanh(c * m) ** 3 + sqrt(2 - tanh(m)) * 0.25, m


UNUSUAL = {
    unusual.name: unusual
    for unusual in (
        words,
        constant_state,
        swapped,
        twice,
        one_sided,
        linear,
        projected_state,
        product_of_a_product,
        product_of_an_input,
        unreached,
        signed_operand,
        three_stages,
        early_operand,
        stage_names,
        saved_comparison,
        constant_operand,
        no_products,
        names_in_use,
        every_operation,
    )
}
