from rnn_gpu.compiler.language import cell, tanh


@cell(gates="h", states="h")
def rnn(Wx, U, h):
    """Vanilla recurrent net: h_t = tanh(W x_t + U h_{t-1} + b). Elman (1990), Finding structure in time."""
    return tanh(Wx.h + U.h(h))
