from rnn_gpu.compiler.language import cell, relu, sigmoid


@cell(gates="zn", states="h")
def ligru(Wx, U, h):
    """Light GRU: no reset gate, a rectifier. Ravanelli et al. (2018), arXiv 1803.10225, eqs 7, without batch norm."""
    z = sigmoid(Wx.z + U.z(h))
    n = relu(Wx.n + U.n(h))
    return z * h + (1 - z) * n
