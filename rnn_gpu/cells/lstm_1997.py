from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="igo", states="hc")
def lstm_1997(Wx, U, h, c):
    """Long short-term memory as first published, without a forget gate. Hochreiter & Schmidhuber (1997), section 4.

    With the squashing functions in use today, tanh for both the paper's g and h, as in Gers et al. (2000).
    """
    i = sigmoid(Wx.i + U.i(h))
    g = tanh(Wx.g + U.g(h))
    o = sigmoid(Wx.o + U.o(h))
    c = c + i * g
    return o * tanh(c), c
