"""A cell is one object: copies of it, and what is pickled and unpickled, are that very cell."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, tanh
from rnn_gpu.compiler.variants import with_gates, with_output


@cell(gates="n", states="h")
def of_this_module(Wx, U, h):
    return tanh(Wx.n + U.n(h))


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("which", [*cells.ALL.values(), of_this_module], ids=lambda cell: cell.name)
def test_there_is_but_one(which, protocol):
    assert copy.copy(which) is which
    assert copy.deepcopy([which])[0] is which
    assert pickle.loads(pickle.dumps(which, protocol)) is which


def test_in_another_process(tmp_path):
    (tmp_path / "cell.pickle").write_bytes(pickle.dumps((cells.lstm, cells.gru_2014)))
    code = (
        "import pickle\nlstm, gru = pickle.load(open('cell.pickle', 'rb'))\nfrom rnn_gpu import cells\n"
        "assert lstm is cells.lstm and gru is cells.gru_2014"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def local():
    @cell(gates="n", states="h")
    def hidden(Wx, U, h):
        return tanh(Wx.n + U.n(h))

    return hidden


@pytest.mark.parametrize(
    "which",
    [local(), with_output(cells.lstm, "c"), with_gates(cells.lstm, "ofig")],
    ids=["local", "variant", "other gates"],
)
def test_what_no_module_has_cannot_be_pickled(which):
    assert copy.deepcopy(which) is which
    with pytest.raises(pickle.PicklingError, match=f"cell {which.name} cannot be pickled: it is not .* of module"):
        pickle.dumps(which)
