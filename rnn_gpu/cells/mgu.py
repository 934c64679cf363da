from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="fn", states="h")
def mgu(Wx, U, h):
    """Minimal gated unit: one gate, both reset and update. Zhou et al. (2016), arXiv 1603.09420, eqs 5-7."""
    f = sigmoid(Wx.f + U.f(h))
    n = tanh(Wx.n + U.n(f * h))
    return (1 - f) * h + f * n
