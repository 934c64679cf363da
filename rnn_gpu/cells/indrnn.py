from rnn_gpu.compiler.language import cell, relu


@cell(gates="h", states="h", vectors={"u": (0.0, 1.0)})
def indrnn(Wx, U, h, v):
    """Independently recurrent net: each unit sees only itself. Li et al. (2018), arXiv 1803.04831, eq 2.

    u is the paper's recurrent weight, one number a unit; there is no U. It starts uniform in [0, 1], section 4.2.
    """
    return relu(Wx.h + v.u * h)
