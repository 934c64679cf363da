"""onnxruntime's CPU provider, on a model of the one node. Inference only."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from contextlib import AbstractContextManager
from typing import Any

from rnn_gpu import cells
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.runner import Results, Runner
from rnn_gpu.bench.shapes import Case
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.weights.onnx import to_onnx

__all__ = ["PEER"]

_NODES: dict[Cell, tuple[str, dict[str, Any]]] = {
    cells.rnn: ("RNN", {}),
    cells.rnn_relu: ("RNN", {"activations": ["Relu"]}),
    cells.rnn_sigmoid: ("RNN", {"activations": ["Sigmoid"]}),
    cells.lstm: ("LSTM", {}),
    cells.lstm_peephole: ("LSTM", {}),
    cells.gru: ("GRU", {"linear_before_reset": 1}),
    cells.gru_2014: ("GRU", {"linear_before_reset": 0}),
}

_OPSET, _IR = 14, 8
"""The operator set of these nodes' last change, and the file format that it came with: every onnxruntime reads them."""


class _OnnxRuntime:
    name = "onnxruntime"

    def unavailable(self) -> str | None:
        if importlib.util.find_spec("onnxruntime") is None:
            return "the package onnxruntime is not installed"
        if importlib.util.find_spec("onnx") is None:
            return "the package onnx, which writes its models, is not installed"
        return None

    def refuses(self, case: Case) -> str | None:
        if case.mode != "forward":
            return f"{self.name} is not measured in mode {case.mode}"
        if case.ragged or case.resets or case.projected:
            return f"{self.name} is measured on whole rows of x only"
        if case.cell not in _NODES:
            return f"ONNX has no {case.cell.name}"
        return None if case.dtype == "float32" else f"{self.name} has these cells in float32 only"

    def threads(self, number: int) -> AbstractContextManager[None]:
        """Nothing to do: they are an option of each session."""
        return contextlib.nullcontext()

    def runner(self, call: Call, threads: int) -> Runner:
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(_model(call), options, providers=["CPUExecutionProvider"])
        inputs = {"X": call.x}

        def results(ran: Any) -> Results:
            y, *last = (array[:, 0] if array.ndim == 4 else array[0] for array in ran)
            return {"y": y} | {f"last_{n}": array for n, array in zip(call.case.cell.states, last, strict=True)}

        return Runner(lambda: session.run(None, inputs), results)


PEER = _OnnxRuntime()


def _model(call: Call) -> bytes:
    """The model: X in; Y and the last states out. The weights are constants in it."""
    onnx: Any = importlib.import_module("onnx")
    helper, numeric = importlib.import_module("onnx.helper"), importlib.import_module("onnx.numpy_helper")
    cell = call.case.cell
    kind, attributes = _NODES[cell]
    weights = to_onnx(cell, call.weights)
    arrays = {name: array for name, array in weights._asdict().items() if array is not None}
    inputs = ["X", *(name if name in arrays else "" for name in ("W", "R", "B"))]
    if weights.P is not None:
        inputs += ["", "", "", "P"]
    outputs = ["Y", *(f"Y_{state}" for state in cell.states)]
    node = helper.make_node(kind, inputs, outputs, hidden_size=call.case.shape.H, **attributes)
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        cell.name,
        [helper.make_tensor_value_info("X", real, call.x.shape)],
        [helper.make_tensor_value_info(name, real, None) for name in outputs],
        [numeric.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    serialized: bytes = model.SerializeToString()
    return serialized
