from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="fg", states="h", forget="f")
def janet(Wx, U, h):
    """Just another network: an LSTM with the forget gate only. Van der Westhuizen & Lasenby (2018), eqs 6-8, beta = 1.

    arXiv 1804.04849. The paper's c_t is its h_t.
    """
    s = Wx.f + U.f(h)
    f = sigmoid(s)
    k = sigmoid(s - 1)
    g = tanh(Wx.g + U.g(h))
    return f * h + (1 - k) * g
