from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="ifgo", states="hc", forget="f")
def lstm(Wx, U, h, c):
    """Long short-term memory with a forget gate. Gers, Schmidhuber & Cummins (2000), eqs 1-6."""
    i = sigmoid(Wx.i + U.i(h))
    f = sigmoid(Wx.f + U.f(h))
    g = tanh(Wx.g + U.g(h))
    o = sigmoid(Wx.o + U.o(h))
    c = f * c + i * g
    return o * tanh(c), c
