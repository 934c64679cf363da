from rnn_gpu.compiler.language import cell, sigmoid


@cell(gates="h", states="h")
def rnn_sigmoid(Wx, U, h):
    """Vanilla recurrent net with a sigmoid, as in the RNN language model. Mikolov et al. (2010), eqs 1-4."""
    return sigmoid(Wx.h + U.h(h))
