from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="rzn", states="h")
def gru_2014(Wx, U, h):
    """Gated recurrent unit as first published, reset before the product. Cho et al. (2014), eqs 5-8.

    Also ONNX's default (linear_before_reset=0) and Keras' reset_after=False.
    """
    r = sigmoid(Wx.r + U.r(h))
    z = sigmoid(Wx.z + U.z(h))
    n = tanh(Wx.n + U.n(r * h))
    return (1 - z) * n + z * h
