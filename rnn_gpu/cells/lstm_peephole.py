from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="ifgo", states="hc", vectors=("p_i", "p_f", "p_o"), forget="f")
def lstm_peephole(Wx, U, h, c, v):
    """Long short-term memory whose gates see the cell. Gers, Schraudolph & Schmidhuber (2002), eqs 1-6.

    The input and forget gates see the cell before the step, the output gate the cell after it.
    """
    i = sigmoid(Wx.i + U.i(h) + v.p_i * c)
    f = sigmoid(Wx.f + U.f(h) + v.p_f * c)
    g = tanh(Wx.g + U.g(h))
    c = f * c + i * g
    o = sigmoid(Wx.o + U.o(h) + v.p_o * c)
    return o * tanh(c), c
