from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="rzn", states="h")
def gru(Wx, U, h):
    """Gated recurrent unit, reset after the product, as in cuDNN, torch and Keras (reset_after=True).

    Chung et al. (2014), arXiv 1412.3555, section 3.2, with Cho et al.'s reset moved behind the recurrent product.
    """
    r = sigmoid(Wx.r + U.r(h))
    z = sigmoid(Wx.z + U.z(h))
    n = tanh(Wx.n + r * U.n(h))
    return (1 - z) * n + z * h
