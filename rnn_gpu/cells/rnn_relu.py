from rnn_gpu.compiler.language import cell, relu


@cell(gates="h", states="h")
def rnn_relu(Wx, U, h):
    """Vanilla recurrent net with a rectifier. Le, Jaitly & Hinton (2015), arXiv 1504.00941, section 3."""
    return relu(Wx.h + U.h(h))
