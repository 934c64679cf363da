"""`make gpu`, as far as it goes without a GPU: which parts there are, time limits, going on, and what is written."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu import breakdown, environment, parts, render, run
from gpu.parts import Part

from rnn_gpu import cells
from rnn_gpu.bench.gpu.results import Results, Row
from rnn_gpu.bench.gpu.suites import PARTS
from rnn_gpu.bench.shapes import Case, Shape

ROOT = Path(__file__).parents[1]


def script(name, text, **options):
    return Part(name, (sys.executable, "-c", text), **{"seconds": 60.0, "least": 0.0} | options)


GOOD = script("good", "print('fine')")
BAD = script("bad", "print('it went wrong'); raise SystemExit(3)")
TESTS = script("tests", "print('1 skipped'); print('== 7 passed, 1 skipped in 2 s ==')", tests=True)
NO_TESTS = script("no tests", "print('2 skipped in 1 s')", tests=True)
LATER = script("later", "raise SystemExit(124)")
SLOW = script("slow", "import time; print('begun', flush=True); time.sleep(60)", seconds=1.0)
STUBBORN = script(
    "stubborn", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)", seconds=0.5
)
ABSENT = Part("absent", ("no-such-program",), 60.0, least=0.0, needs="no-such-program was not found")


@pytest.fixture
def go(monkeypatch, tmp_path):
    """Run parts at a commit: the status, what was said, and what the state file holds."""
    monkeypatch.setattr(run, "GRACE", 0.3)

    def go(*wanted, sources="s1", seconds=1000.0, **options):
        said = []
        path = tmp_path / "results" / "gpu-parts.json"
        status = run.run(list(wanted), run.State(path, sources, "c0ffee"), seconds, say=said.append, **options)
        kept = json.loads(path.read_text()) if path.exists() else {}
        return status, said, {name: entry["status"] for name, entry in kept.items()}

    return go


@pytest.mark.parametrize(
    ("part", "status", "outcome", "said"),
    [
        (GOOD, 0, "done", "good: done"),
        (BAD, 1, "failed", "bad: failed: status 3: it went wrong"),
        (TESTS, 0, "done", "tests: done: 7 passed, 1 skipped in 2 s"),
        (NO_TESTS, 1, "failed", "no tests: failed: no test ran"),
        (LATER, 124, "unfinished", "later: unfinished: goes on from here"),
        (SLOW, 124, "unfinished", "slow: unfinished: time was up"),
        (STUBBORN, 124, "unfinished", "stubborn: unfinished: time was up"),
        (ABSENT, 1, "missing", "absent: cannot be done here: no-such-program was not found"),
    ],
    ids=lambda value: value.name if isinstance(value, Part) else None,
)
def test_what_comes_of_a_part(go, part, status, outcome, said):
    begin = time.monotonic()
    found, told, kept = go(part)
    assert (found, kept) == (status, {part.name: outcome})
    assert said in told
    assert time.monotonic() - begin < 30


def test_what_is_done_is_not_done_again(go):
    assert go(GOOD, BAD)[0] == 1
    status, said, kept = go(GOOD, BAD)
    assert said[0] == "good: has been done"
    assert "bad: failed: status 3: it went wrong" in said
    assert (status, kept) == (1, {"good": "done", "bad": "failed"})
    assert go(GOOD)[0] == 0
    assert "good: done" in go(GOOD, again=True)[1]
    assert "good: done" in go(GOOD, sources="s2")[1]


def test_nothing_is_begun_that_has_no_time(go):
    long = script("long", "print('fine')", least=30.0)
    status, said, kept = go(GOOD, long, seconds=20.0)
    assert status == 124
    assert kept == {"good": "done"}
    assert said[-2:] == ["long: no time left for it", "left for another time: long"]


def test_a_part_is_told_how_long_it_has(go):
    part = script("told", "raise SystemExit(0 if 0 < {minutes} < 1.01 else 1)")
    assert go(part, seconds=66.0)[0] == 0


def test_a_program_that_does_not_exist_is_an_error(go):
    with pytest.raises(FileNotFoundError):
        go(Part("wrong", ("no-such-program",), 60.0, least=0.0))


def test_what_the_device_did_in_a_call():
    spans = [breakdown.Span(*span) for span in (("b", 5.0, 7.0), ("a", 0.0, 3.0), ("c", 6.0, 6.5), ("a", 10.0, 14.0))]
    found = breakdown.summary(spans)
    assert (found["span_us"], found["idle_us"]) == (14.0, 5.0)
    assert [tuple(kernel.values()) for kernel in found["kernels"]] == [("a", 2, 7.0), ("b", 1, 2.0), ("c", 1, 0.5)]
    assert breakdown.summary([]) == {"span_us": 0.0, "idle_us": 0.0, "kernels": []}


def test_what_the_host_does_in_a_call_is_said():
    class Platform:
        def time(self, run):
            run()

        def synchronize(self):
            pass

    found = breakdown.on_host(lambda: sum(range(1000)), Platform())
    said = breakdown.in_words({"call": "a call", "device_us": 1.0, **breakdown.summary([]), **found})
    assert found["host_us"] > 0
    assert any("sum" in function["name"] and function["count"] == 1 for function in found["functions"])
    assert "built-in method builtins.sum" in said
    assert breakdown.in_words({"call": "another", "reason": "no"}) == "another: no"


def test_the_calls_that_are_broken_down_are_different():
    assert len(set(map(str, breakdown.CALLS))) == len(breakdown.CALLS)


def test_the_parts(monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "find_sanitizer", lambda: None)
    made = parts.parts("python", tmp_path, 9.0)
    names = [part.name for part in made]
    assert names[:3] == ["smoke", "barriers", "cudnn"]
    assert [name for name in names if name.startswith("sanitizer:")] == [f"sanitizer:{tool}" for tool in parts.TOOLS]
    assert [name.removeprefix("bench:") for name in names if name.startswith("bench:")] == list(PARTS)
    assert all(part.seconds <= 600 for part in made)
    assert all((part.needs is not None) == part.name.startswith("sanitizer:") for part in made)
    for part in made:
        if part.tests:
            files = [word for word in part.command if word.startswith("tests/")]
            assert files in (list(parts.TESTS), list(parts.TESTS[1:]))
            for path in parts.TESTS[1:]:
                assert "TARGETS" in (ROOT / path).read_text(), "a file without tests of each backend"
        for word in part.command:
            if word.endswith(".py"):
                assert Path(word).exists() or (ROOT / word).exists()


def test_the_sanitizer_is_found(monkeypatch, tmp_path):
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert parts.find_sanitizer() == str(program)


def command(*words, **options):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=ROOT, **options)


def test_without_a_device():
    if run.device_name() is not None:
        pytest.skip("there is a device")
    done = command("tests/gpu/run.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "make gpu: no NVIDIA device was found: nvidia-smi names none\n"
    done = command("tests/gpu/environment.py", ".venv-gpu-test")
    assert (done.returncode, done.stderr) == (2, "no NVIDIA driver was found: nvidia-smi does not run\n")
    assert not (ROOT / ".venv-gpu-test").exists()
    done = command("tests/gpu/sanitized.py")
    assert done.returncode == 2
    assert done.stderr.startswith("cupy_raw: ")
    done = command("-m", "rnn_gpu.bench.gpu.barriers")
    assert done.returncode == 2
    assert done.stderr.startswith("barriers cannot be measured here: ")


def test_the_list_needs_no_device():
    done = command("tests/gpu/run.py", "--list", "--parts", "smoke", "bench")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["smoke", *(f"bench:{name}" for name in PARTS)]


def test_a_copy_without_git_is_told_its_commit(monkeypatch, tmp_path):
    assert run.commit().rstrip("+").isalnum()
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.delenv("RNN_GPU_COMMIT", raising=False)
    assert run.commit() == "unknown"
    monkeypatch.setenv("RNN_GPU_COMMIT", "c0ffee")
    assert run.commit() == "c0ffee"


def test_folders_of_devices():
    assert run.folder_name("NVIDIA H200") == "nvidia-h200"
    assert run.folder_name("NVIDIA A100-SXM4-80GB") == "nvidia-a100-sxm4-80gb"


def test_the_environment_sees_the_packages_of_this_one(tmp_path):
    python = environment.make(tmp_path / "made", with_pip=False)
    seen = subprocess.run(
        [python, "-c", "import numpy, sys; print(numpy.__version__, sys.prefix)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    import numpy  # noqa: PLC0415

    assert seen.stdout.split() == [numpy.__version__, str(tmp_path / "made")]


def test_what_the_environment_lacks():
    everything = {environment.normal(name) for name in environment.NEEDED} | {"cupy-cuda12x"}
    assert environment.missing_packages(everything) == []
    assert environment.missing_packages(everything - {"rich", "cupy-cuda12x"}) == ["rich", "cupy"]
    assert environment.normal("Ml_Dtypes") in environment.installed()
    assert [environment.extra_for(driver) for driver in (None, 535, 580)] == [None, "cuda12", "cuda13"]
    wheels = Path("wheels")
    assert environment.wanted_of(["rich", "cupy"], "cuda13", wheels) == ["rich", "cupy-cuda13x"]
    assert environment.wanted_of(["cupy"], "cuda12", None) == [f"{ROOT}[cuda12]"]
    assert environment.index(wheels) == ["--no-index", "--find-links", "wheels"]
    assert environment.index(None) == []


def test_a_folder_of_wheels_that_is_none(capsys, tmp_path):
    assert environment.main([str(tmp_path / "made"), "--wheels", str(tmp_path / "none")]) == 2
    assert "WHEELS: expected a folder of wheels, got" in capsys.readouterr().err


def test_no_results_are_no_document(tmp_path, capsys):
    assert render.main([str(tmp_path), str(tmp_path / "gpu.md")]) == 0
    assert not (tmp_path / "gpu.md").exists()
    assert "no document" in capsys.readouterr().out


def test_the_document_is_made_of_the_results(tmp_path):
    folder, document = tmp_path / "a-device", tmp_path / "gpu.md"
    machine = {"date": "2026-01-01", "commit": "c0ffee", "driver": "580.1"}
    results = Results("A Device", {"part": "core"}, machine)
    fields = Row.of(Case(cells.lstm, Shape(128, 16, 512, 512), "train", dtype="bfloat16"))
    results.rows.append(Row(**fields, status="ok", ours_step_us=1.25, torch_step_us=2.5, ratio=2.0, error=1e-3))
    results.write(folder / "gpu-core.json")
    barriers = {"device": "A Device", "machine": machine, "rows": [
        {"barrier": "block", "blocks": 132, "us": 0.0123}, {"barrier": "cg_grid", "blocks": 132, "reason": "no header"},
    ]}  # fmt: skip
    (folder / "gpu-barriers.json").write_text(json.dumps(barriers))
    assert render.main([str(tmp_path), str(document)]) == 0
    text = document.read_text()
    assert "## a-device" in text
    assert "A Device; driver 580.1; measured 2026-01-01 at commit c0ffee." in text
    assert "| lstm | bfloat16 | 128,16,512,512 | train | 1.25 | 2.5 | 2 | 1e-03 | - |  |" in text
    assert "Measured so far: 1 of 3456 cases." in text
    assert "| block | 132 | 0.012 |" in text
    assert "| cg_grid | 132 | not measured: no header |" in text
