from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="fgo", states="hc", forget="f")
def lstm_cifg(Wx, U, h, c):
    """Long short-term memory with coupled input and forget gates, i = 1 - f. Greff et al. (2017), section III.B."""
    f = sigmoid(Wx.f + U.f(h))
    g = tanh(Wx.g + U.g(h))
    o = sigmoid(Wx.o + U.o(h))
    c = f * c + (1 - f) * g
    return o * tanh(c), c
