"""A run and its folder: stopping, going on with the same bits, limits, and what cannot be gone on with."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from rnn_gpu.errors import ArgumentError, FileFormatError
from rnn_gpu.lm import checkpoint, saved
from rnn_gpu.lm import run as lm_run
from rnn_gpu.lm.evaluate import evaluate
from rnn_gpu.lm.run import Run
from rnn_gpu.lm.settings import Settings
from rnn_gpu.lm.trainer import DivergedError

SMALL = {"hidden": 12, "layers": 2, "batch": 4, "sequence": 20, "dropout": 0.2, "learning_rate": 0.01}


class Recorder:
    """A listener that remembers, and asks to stop after so many chunks."""

    def __init__(self, stop_after=None):
        self.statuses, self.epochs, self.stop_after = [], [], stop_after

    def status(self, status):
        self.statuses.append(status)

    def epoch(self, epoch):
        self.epochs.append(epoch)

    def stop(self):
        return self.stop_after is not None and len(self.statuses) >= self.stop_after


def train(run, stop_after=None):
    recorder = Recorder(stop_after)
    return run.train(recorder, recorder.stop), recorder


def start(folder, file, **settings):
    return Run.start(Settings(**{**SMALL, **settings}), file, folder)


def outcome(run):
    """All that must be the same bits however often a run was stopped: arrays, losses, epochs apart from times."""
    epochs = [(e.epoch, e.training, e.validation, e.learning_rate) for e in run.trainer.progress.epochs]
    arrays = {name: array.tobytes() for name, array in run.trainer.tensors.items()}
    return epochs, arrays, run.trainer.state["rng"], run.trainer.state["optimizer_steps"]


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path, text_file, optimizer, unit):
    settings = {"epochs": 4, "optimizer": optimizer, "unit": unit}
    settings |= {"sequence": 7} if unit == "word" else {}
    whole = start(tmp_path / "whole", text_file, **settings)
    reason, _ = train(whole)
    assert reason == "all epochs are done"

    chunks = whole.trainer.chunks_per_epoch
    assert chunks > 6
    run = start(tmp_path / "parts", text_file, **settings)
    for pause in (0, 3, chunks - 3, 1, chunks + 2):  # at the start, in an epoch, at its end, after one chunk, over two
        reason, _ = train(run, stop_after=pause)
        assert reason is None
        run = Run.resume(tmp_path / "parts", None, {})
    reason, _ = train(run)
    assert reason == "all epochs are done"
    assert outcome(run) == outcome(whole)
    assert run.finish().held_out == whole.finish().held_out
    files = [
        Path(tmp_path, name, checkpoint.read_config(tmp_path / name)["files"]["model"]["name"])
        for name in ("whole", "parts")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_going_on_with_more_epochs_is_the_same_as_asking_for_them_at_once(tmp_path, text_file):
    whole = start(tmp_path / "whole", text_file, epochs=3)
    train(whole)
    run = start(tmp_path / "parts", text_file, epochs=1)
    train(run)
    run.finish()
    run = Run.resume(tmp_path / "parts", None, {"epochs": 3})
    train(run)
    assert outcome(run) == outcome(whole)


def test_the_run_learns_and_tells_how_it_goes(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, epochs=25, dropout=0.0)
    _, recorder = train(run)
    result = run.finish()
    losses = [epoch.training for epoch in recorder.epochs]
    assert losses[0] > 2.0
    assert result.held_out < 1.0
    assert result.validation == min(epoch.validation for epoch in recorder.epochs)
    assert result.held_out_tokens == len(run.trainer.corpus.held_out) - 1
    done = [status.done for status in recorder.statuses]
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert recorder.statuses[-1].seconds_left == 0.0
    assert all(status.rate > 0 for status in recorder.statuses)
    assert len(recorder.statuses) == len(run.trainer.losses) == 25 * run.trainer.chunks_per_epoch


def test_the_saved_model_is_the_one_that_was_evaluated(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, epochs=2)
    train(run)
    result = run.finish()
    loaded = saved.load(tmp_path / "m")
    assert evaluate(loaded.model, run.trainer.corpus.held_out, loaded.settings) == result.held_out
    entry = loaded.config["result"]
    assert entry["measure"] == "bits/char"
    assert entry["held_out"] == result.held_out / np.log(2)


def test_the_time_limit_counts_the_time_before_a_stop(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, minutes=1.0)
    train(run, stop_after=2)
    assert 0 < run.trainer.progress.seconds < 60
    run.trainer.progress.seconds += 59.9999
    run.save()
    run = Run.resume(tmp_path / "m", None, {})
    reason, recorder = train(run)
    assert reason == "the time is up"
    assert len(recorder.statuses) < 100


def test_time_up_in_the_middle_of_an_epoch_still_gives_the_better_parameters(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, epochs=30)
    train(run, stop_after=run.trainer.chunks_per_epoch * 5 + 3)
    chosen, validation = run.trainer.chosen()
    assert validation == min(
        run.trainer.progress.schedule.best, evaluate(run.trainer.model, run.trainer.corpus.validation, run.settings)
    )
    expected = run.trainer.model.parameters if validation < run.trainer.progress.schedule.best else run.trainer.best
    assert chosen.keys() == expected.keys()
    assert all(np.array_equal(chosen[name], expected[name]) for name in expected)


def test_training_ends_when_validation_no_longer_improves_and_the_best_is_kept(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, epochs=500, learning_rate=0.05, dropout=0.0)
    reason, recorder = train(run)
    assert reason == "validation no longer improves"
    rates = [epoch.learning_rate for epoch in recorder.epochs]
    assert rates[0] == 0.05
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]
    best = min(epoch.validation for epoch in recorder.epochs)
    assert run.finish().validation == best
    assert evaluate(saved.load(tmp_path / "m").model, run.trainer.corpus.validation, run.settings) == best


def test_a_diverging_run_is_reported_and_its_parameters_stay(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, epochs=5)
    run.trainer.step()
    run.trainer.model.parameters["softmax.b"][0] = np.inf
    before = {name: array.copy() for name, array in run.trainer.model.parameters.items()}
    with pytest.raises(DivergedError, match="chunk 2 of epoch 1"):
        run.trainer.step()
    assert all(np.array_equal(before[name], array) for name, array in run.trainer.model.parameters.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden", 13), ("cell", "gru"), ("layers", 1), ("unit", "word"), ("seed", 5), ("dropout", 0.5), ("batch", 5)],
)
def test_resuming_with_another_setting_names_it(tmp_path, text_file, name, value):
    run = start(tmp_path / "m", text_file, epochs=1)
    train(run)
    with pytest.raises(ArgumentError, match=f"^{name}: expected .*, as in the model that is resumed, got {value!r}"):
        Run.resume(tmp_path / "m", None, {name: value})
    Run.resume(tmp_path / "m", None, {"hidden": SMALL["hidden"], "backend": "numpy_cpu"})


def test_limits_given_anew_replace_both(tmp_path, text_file):
    run = start(tmp_path / "m", text_file, epochs=1, minutes=3.0)
    train(run)
    assert (Run.resume(tmp_path / "m", None, {}).settings.epochs, run.settings.minutes) == (1, 3.0)
    resumed = Run.resume(tmp_path / "m", None, {"epochs": 7}).settings
    assert (resumed.epochs, resumed.minutes) == (7, None)


def test_resuming_needs_the_same_text_wherever_it_is_now(tmp_path, text_file):
    train(start(tmp_path / "m", text_file, epochs=1))
    moved = Path(text_file).rename(tmp_path / "moved.txt")
    with pytest.raises(ArgumentError, match=r"FILE: .*No such file"):
        Run.resume(tmp_path / "m", None, {})
    assert Run.resume(tmp_path / "m", str(moved), {}).source["file"] == str(moved)
    moved.write_text(moved.read_text() + "!")
    with pytest.raises(ArgumentError, match="FILE: expected the text that the model was trained on, got another one"):
        Run.resume(tmp_path / "m", str(moved), {})


def test_a_run_is_saved_now_and_then_so_that_a_crash_costs_little(tmp_path, text_file, monkeypatch):
    monkeypatch.setattr(lm_run, "_SAVE_EVERY", 0.0)

    class Crash(Recorder):
        def status(self, status):
            super().status(status)
            if len(self.statuses) == 20:
                raise SystemError

    run = start(tmp_path / "m", text_file, epochs=2)
    with pytest.raises(SystemError):
        run.train(Crash(), lambda: False)
    run = Run.resume(tmp_path / "m", None, {})
    assert len(run.trainer.losses) == 19
    train(run)
    whole = start(tmp_path / "whole", text_file, epochs=2)
    train(whole)
    assert outcome(run) == outcome(whole)


def test_a_full_disk_stops_the_run_and_leaves_the_former_save(tmp_path, text_file, monkeypatch):
    run = start(tmp_path / "m", text_file, epochs=9)
    train(run, stop_after=4)
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(OSError, match=r"cannot be saved .*: No space left on device; the former save is intact"):
            train(Run.resume(tmp_path / "m", None, {}), stop_after=3)
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
    assert len(Run.resume(tmp_path / "m", None, {}).trainer.losses) == 4


def edit(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("settings"), "'settings' is missing"),
        (lambda c: c.pop("vocabulary"), "'vocabulary' is missing"),
        (lambda c: c.update(vocabulary="abc"), "'vocabulary': expected a list of strings"),
        (lambda c: c["vocabulary"].__setitem__(0, 3), "'vocabulary': expected a list of strings"),
        (lambda c: c["vocabulary"].__setitem__(0, c["vocabulary"][1]), "'vocabulary': expected each token once"),
        (lambda c: c["vocabulary"].append("zz"), r"tensor 'embedding': expected float32 \(\d+, 12\), found"),
        (lambda c: c["settings"].update(hidden=13), r"tensor 'embedding': expected float32 \(\d+, 13\), found"),
        (lambda c: c["settings"].update(layers=3), r"tensor 'layers.2.w_ih': expected one of shape .*, found none"),
        (lambda c: c["settings"].update(layers=1), r"tensor 'layers.1.b_hh': expected none of this name"),
        (lambda c: c["settings"].update(hidden="13"), "hidden: expected an integer"),
        (lambda c: c["settings"].update(colour=1), "colour"),
        (lambda c: c["settings"].update(cell="gru"), "was trained with another cell 'gru': gates i f g o"),
        (lambda c: c.update(cell=None), "is damaged"),
        (lambda c: c["files"].pop("model"), "'model' is missing"),
    ],
)
def test_a_model_that_does_not_fit_its_config_is_refused(tmp_path, text_file, change, message):
    train(start(tmp_path / "m", text_file, epochs=1))
    edit(tmp_path / "m", change)
    with pytest.raises(FileFormatError, match=message):
        saved.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("progress"), "'progress' is missing"),
        (lambda c: c["progress"].pop("rng"), "rng"),
        (lambda c: c["progress"].update(chunk="many"), "is damaged"),
        (lambda c: c["progress"].update(chunk=10**6), "is damaged"),
        (lambda c: c["progress"].update(rng={"bit_generator": "MT19937"}), "is damaged"),
        (lambda c: c["progress"].update(epochs=[]), "is damaged"),
        (lambda c: c["files"].update(training=c["files"]["model"]), "is damaged"),
        (lambda c: c.pop("text"), "'text' is missing"),
    ],
)
def test_a_run_whose_progress_is_damaged_is_refused(tmp_path, text_file, change, message):
    train(start(tmp_path / "m", text_file, epochs=2), stop_after=20)
    edit(tmp_path / "m", change)
    with pytest.raises(FileFormatError, match=message):
        Run.resume(tmp_path / "m", None, {})
