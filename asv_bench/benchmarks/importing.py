"""Import time, each in a fresh interpreter."""


def timeraw_import_rnn_gpu() -> str:
    return "import rnn_gpu"


# What importing rnn_gpu costs at the very least.
def timeraw_import_numpy() -> str:
    return "import numpy"
