"""Which backend runs a call, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells, dispatch, problem
from rnn_gpu.errors import ArgumentError, ArgumentTypeError, BackendError

X = np.zeros((5, 3, 4), np.float32)
WEIGHTS = rnn_gpu.init_weights(cells.lstm, 4, 6)


class Fake:
    """A backend that runs as NumPy does what it neither refuses nor is unavailable for."""

    description = "for these tests"
    device_kind = "cpu"
    copies_host_arrays = False
    batch_invariant = False

    def __init__(self, name, *, unavailable=None, refuses=None):
        self.name, self._unavailable, self._refuses = name, unavailable, refuses
        self.asked = 0

    def unavailable(self):
        return self._unavailable

    def refuses(self, problem):
        assert self._unavailable is None, "not to be asked where the backend is unavailable"
        self.asked += 1
        return self._refuses

    def plan(self, problem):
        return None

    def forward(self, problem, inputs):
        return dispatch.BACKENDS["numpy_cpu"].forward(problem, inputs)

    def backward(self, *arguments):
        return dispatch.BACKENDS["numpy_cpu"].backward(*arguments)

    def step(self, problem, inputs):
        return dispatch.BACKENDS["numpy_cpu"].step(problem, inputs)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """No backend is asked for, and problems remember none of another test."""
    monkeypatch.delenv(dispatch.ENVIRONMENT_VARIABLE, raising=False)
    problem.forget()
    yield
    problem.forget()


@pytest.fixture
def register(monkeypatch):
    """Put fake backends before or after NumPy's in the order of preference."""

    def register(*before, after=()):
        backends = {fake.name: fake for fake in before}
        backends |= {"numpy_cpu": dispatch.BACKENDS["numpy_cpu"]}
        backends |= {fake.name: fake for fake in after}
        monkeypatch.setattr(dispatch, "BACKENDS", backends)

    return register


def chosen(**options):
    return rnn_gpu.forward(cells.lstm, X, WEIGHTS, **options).tape.backend.name


def test_the_first_that_can_runs_the_call(register):
    register(Fake("absent", unavailable="no such device"), Fake("picky", refuses="too wide"), Fake("quick"))
    assert chosen() == "quick"
    assert chosen(backend="numpy_cpu") == "numpy_cpu"


def test_the_rest_is_not_asked(register):
    later = Fake("later")
    register(after=[later])
    assert chosen() == "numpy_cpu"
    assert later.asked == 0


def test_backward_and_step_use_the_backend_too(register):
    ran = []

    class Noting(Fake):
        def backward(self, *arguments):
            ran.append("backward")
            return super().backward(*arguments)

        def step(self, *arguments):
            ran.append("step")
            return super().step(*arguments)

    register(Noting("noting"))
    y, _, tape = rnn_gpu.forward(cells.lstm, X, WEIGHTS)
    rnn_gpu.backward(tape, y)
    rnn_gpu.step(cells.lstm, X[0], WEIGHTS)
    assert ran == ["backward", "step"]


def test_the_environment_names_a_backend(register, monkeypatch):
    register(Fake("quick"))
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")
    assert chosen() == "numpy_cpu"
    assert chosen(backend="quick") == "quick"
    monkeypatch.setenv("RNN_GPU_BACKEND", "")
    assert chosen() == "quick"


@pytest.mark.parametrize(
    ("reasons", "why"), [({"unavailable": "no such device"}, "no such device"), ({"refuses": "too wide"}, "too wide")]
)
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_named_backend_that_cannot_raises(register, monkeypatch, how, reasons, why):
    register(Fake("picky", **reasons))
    if how == "environment":
        monkeypatch.setenv("RNN_GPU_BACKEND", "picky")
    named = {"backend": "picky"} if how == "argument" else {}
    for call in (
        lambda: rnn_gpu.forward(cells.lstm, X, WEIGHTS, **named),
        lambda: rnn_gpu.step(cells.lstm, X[0], WEIGHTS, **named),
    ):
        with pytest.raises(BackendError, match=rf"cannot run lstm, T=. B=3 I=4 H=6, float32.*\. picky: {why}$"):
            call()


def test_all_reasons_are_given_where_none_can(monkeypatch):
    fakes = [Fake("absent", unavailable="no such device"), Fake("picky", refuses="too wide")]
    monkeypatch.setattr(dispatch, "BACKENDS", {fake.name: fake for fake in fakes})
    with pytest.raises(BackendError, match=r"absent: no such device; picky: too wide$"):
        rnn_gpu.forward(cells.lstm, X, WEIGHTS)
    explanation = rnn_gpu.explain(cells.lstm, X, WEIGHTS)
    assert explanation.chosen is None
    assert "runs this call" not in str(explanation)


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_an_unknown_backend_is_named_with_those_there_are(monkeypatch, how):
    named = {"backend": "numpy"} if how == "argument" else {}
    if how == "environment":
        monkeypatch.setenv("RNN_GPU_BACKEND", "numpy")
    source = "backend" if how == "argument" else "RNN_GPU_BACKEND"
    message = rf"^{source}: expected one of .*numpy_cpu.*, got 'numpy' \(did you mean 'numpy_cpu'\?\)$"
    with pytest.raises(ArgumentError, match=message):
        rnn_gpu.forward(cells.lstm, X, WEIGHTS, **named)
    with pytest.raises(ArgumentError, match=f"^{source}: "):
        rnn_gpu.explain(cells.lstm, X, WEIGHTS, **named)


@pytest.mark.parametrize("backend", [3, [], b"numpy_cpu"], ids=str)
def test_a_backend_that_is_no_name(backend):
    with pytest.raises(ArgumentTypeError, match=r"^backend: expected the name of a backend, got "):
        rnn_gpu.forward(cells.lstm, X, WEIGHTS, backend=backend)


def test_explain_says_who_runs_the_call_and_why_not_the_others(register):
    register(Fake("absent", unavailable="no such device"), Fake("picky", refuses="too wide"), after=[Fake("later")])
    resets = np.zeros((5, 3), bool)
    explanation = rnn_gpu.explain(cells.lstm, X, WEIGHTS, lengths=[1, 2, 3], resets=resets, reverse=True)
    assert explanation.chosen == "numpy_cpu"
    assert explanation.asked_for is None
    assert explanation.reasons == {"absent": "no such device", "picky": "too wide", "numpy_cpu": None, "later": None}
    assert str(explanation).splitlines() == [
        "lstm, T=5 B=3 I=4 H=6, float32, numpy array on cpu, reverse, save, lengths, resets",
        "  absent     no such device",
        "  picky      too wide",
        "  numpy_cpu  runs this call",
        "  later      could; comes later",
    ]


def test_explain_of_a_named_backend(register):
    register(Fake("quick"), Fake("picky", refuses="too wide"))
    explanation = rnn_gpu.explain(cells.lstm, X, WEIGHTS, backend="numpy_cpu")
    assert str(explanation).splitlines()[1:] == [
        "  quick      could; another was asked for",
        "  picky      too wide",
        "  numpy_cpu  runs this call, as asked for",
    ]
    refused = rnn_gpu.explain(cells.lstm, X, WEIGHTS, backend="picky")
    assert (refused.chosen, refused.asked_for) == (None, "picky")


def test_numpy_refuses_what_is_not_in_host_memory():
    torch = pytest.importorskip("torch")
    x, weights = torch.tensor(X, device="meta"), WEIGHTS.map(lambda array: torch.tensor(array, device="meta"))
    with pytest.raises(BackendError, match="numpy_cpu: x is a torch array on meta; this backend takes host arrays"):
        rnn_gpu.forward(cells.lstm, x, weights, backend="numpy_cpu")


def test_tf32_is_asked_for_by_name_and_means_float32():
    def described(dtype, **options):
        return rnn_gpu.explain(cells.lstm, X.astype(dtype), WEIGHTS.map(lambda array: array.astype(dtype)), **options)

    assert not described("float32").problem.tf32
    asked_for = described("float32", tf32=True)
    assert asked_for.problem.tf32
    assert "tf32" in str(asked_for).splitlines()[0]
    assert not described("float64", tf32=True).problem.tf32
    assert not described("float16", tf32=True).problem.tf32
