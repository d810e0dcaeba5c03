"""What a person sees of a run: the bar, a line per epoch, why it ended and what to do next."""

import io
import re
import signal
import sys

import keras
import numpy as np
import pytest
from helpers.stopping import At, interrupt
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.callbacks import epoch_line, progress
from lightkeras.callbacks.ending import command_name
from lightkeras.callbacks.interrupt import Interrupt
from lightkeras.callbacks.pace import Pace
from lightkeras.callbacks.stop_reason import reason_of
from lightkeras.utils import terminal
from lightkeras.utils.terminal import Part, fit_line

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras', of variables
STEPS = 5


class Terminal(io.TextIOWrapper):
    """A terminal of an encoding."""

    def __init__(self, encoding="utf-8"):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")

    def isatty(self):
        return True

    def getvalue(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture
def screen(monkeypatch):
    def make(columns=100, encoding="utf-8", **variables):
        for name, value in {"TERM": "xterm", "COLUMNS": str(columns), **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdout", Terminal(encoding))
        return sys.stdout

    monkeypatch.delenv("NO_COLOR", raising=False)
    return make


def fit(root=None, task=None, callbacks=(), data=None, **arguments):
    arguments = {"run_eagerly": True, "max_epochs": 1, "enable_progress_bar": True, "log_every_n_steps": 2, **arguments}
    trainer = quiet(root, callbacks=list(callbacks), **arguments)
    trainer.fit(task or Classifier(), data or PointsData())
    return trainer


# ---- numbers, times, lines


def test_what_is_counted_is_the_speed():
    assert epoch_line.format_speed({"steps_per_second": 4.386, "images_per_second": 1403.0}) == "1,403 images/s"
    assert epoch_line.format_speed({"steps_per_second": 4.386}) == "4.386 steps/s"
    assert epoch_line.format_speed({"loss": 1.0}) == ""


def test_the_remaining_time_has_updates_and_what_is_between_epochs():
    pace = Pace()
    pace.begin_epoch(0.0, 0)
    assert pace.remaining(0.0, 20, 2) is None
    pace.count(10.0, 1)  # traces and compiles
    assert pace.remaining(10.0, 19, 2) is None
    pace.count(19.0, 10)  # 1 second each
    assert pace.remaining(19.0, 10, 2) == 10.0
    assert pace.remaining(22.0, 10, 2) == 10.0 + 2 * 3 - 3  # in a validation that takes 3 seconds so far
    pace.begin_epoch(23.0, 10)
    assert pace.remaining(23.0, 10, 1) == 10.0 + 4.0
    pace.count(25.0, 11)
    assert pace.remaining(26.0, 9, 1) == pytest.approx(9 * (4.5 + 2.0) / (4.5 + 1) + 4.0 - 1.0)  # half of what is old


def test_parts_are_left_out_by_rank_until_the_line_fits():
    parts = [Part("epoch 1/9"), Part("0:12", 2), Part("loss 1.500", 1), Part(""), Part("19,682 characters/s", 3)]
    assert str(fit_line(parts, 100)) == "epoch 1/9  0:12  loss 1.500  19,682 characters/s"
    assert str(fit_line(parts, 48)) == "epoch 1/9  0:12  loss 1.500  19,682 characters/s"
    assert str(fit_line(parts, 47)) == "epoch 1/9  0:12  loss 1.500"
    assert str(fit_line(parts, 26)) == "epoch 1/9  loss 1.500"
    assert str(fit_line(parts, 20)) == "epoch 1/9"
    assert str(fit_line(parts, 7)) == "epoch 1"


def test_wide_letters_count_as_two_columns():
    assert str(fit_line([Part("epoch 1"), Part("損失 1.0", 1)], 17)) == "epoch 1  損失 1.0"
    assert str(fit_line([Part("epoch 1"), Part("損失 1.0", 1)], 16)) == "epoch 1"


def test_what_an_encoding_lacks_is_written_out():
    ascii_stream = Terminal("ascii")
    assert terminal.to_shown(ascii_stream, "précision\n") == r"pr\xe9cision\n"
    assert terminal.to_shown(Terminal(), "précision") == "précision"
    assert not terminal.can_show(ascii_stream, "━") and terminal.can_show(Terminal(), "━")


def test_the_bar():
    assert epoch_line.draw_bar(0.5, 5, False) == "━━╸──" and epoch_line.draw_bar(0.5, 5, True) == "##---"
    assert [epoch_line.draw_bar(share, 3, False) for share in (-1.0, 0.0, 1.0, 2.0)] == ["───", "───", "━━━", "━━━"]


def order(names, shown=(), sets=("",), monitor="val_loss"):
    return epoch_line.order_metrics(names.split(), shown, sets, monitor)


def test_the_metrics_of_a_line():
    assert order("epoch step accuracy loss learning_rate val_accuracy val_loss steps_per_second") == [
        "loss", "val_loss", "accuracy", "val_accuracy", "learning_rate",
    ]  # fmt: skip
    gan = "d_accuracy generator_loss discriminator_loss val_fid val_generator_loss"
    assert order(gan, monitor="val_fid") == [
        "generator_loss", "discriminator_loss", "val_fid", "val_generator_loss", "d_accuracy",
    ]  # fmt: skip
    assert order("loss bits val_bits val_loss", ("val_loss", "loss", "absent")) == ["val_loss", "loss"]
    assert order("loss val_a_loss val_b_loss val_b_bits", ("loss", "val_loss"), ("a", "b")) == [
        "loss", "val_a_loss", "val_b_loss",
    ]  # fmt: skip
    assert order("mae", ("loss",)) == ["mae"]


# ---- a run


def test_plain_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    fit(max_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    metrics = r"loss 0\.\d{4}  val_loss 0\.\d{4} \(best\)  accuracy 0\.\d{4}  [\d.,]+ examples/s"
    assert re.fullmatch(rf"epoch 1/2  \d+:\d\d  {metrics}  \d:\d\d left", lines[0]), lines
    assert re.fullmatch(rf"epoch 2/2  \d+:\d\d  {metrics}", lines[1]), lines
    best = re.search(r"val_loss (\S+)", lines[1])
    assert best and re.fullmatch(
        rf"Ended by max_epochs=2; best val_loss {best[1]} at epoch 2 \(10 updates, \d:\d\d\)", lines[2]
    )
    assert len(lines) == 3 and all(line.isprintable() and len(line) <= 100 for line in lines)


def test_plain_lines_within_an_epoch(capsys):
    fit(callbacks=[lk.callbacks.ProgressBar(plain=0.0)], steps_per_execution=1, max_steps=4)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines[:4]] == ["1/5", "2/5", "3/5", "4/5"]
    assert "loss" not in lines[0] and re.fullmatch(
        r"epoch 1/1  2/5  \d:\d\d left  loss \S+  accuracy \S+  learning_rate 0.05000", lines[1]
    )


class Declares(Classifier):
    shown_metrics = ("accuracy", "val_loss")


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        (100, r"epoch 1/1  \d:\d\d  accuracy 0\.\d{4}  val_loss 0\.\d{4} \(best\)  \S+ examples/s"),
        (62, r"epoch 1/1  \d:\d\d  accuracy 0\.\d{4}  val_loss 0\.\d{4} \(best\)"),
        (40, r"epoch 1/1  accuracy 0\.\d{4}"),
        (9, "epoch 1/1"),
    ],
)
def test_a_line_fits_and_has_what_the_task_declares(columns, pattern, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    fit(task=Declares())
    line = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(pattern, line) and len(line) <= columns, line


def printed(screen) -> list[str]:
    """The lines of a terminal, without what moves the cursor and without the bar."""
    text = re.sub(r"\x1b\[[\d;?]*[A-LN-Za-z]", "", re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue()))
    return [line for line in re.split(r"[\r\n]+", text) if line]


def assert_released(screen: Terminal) -> None:
    """The cursor is shown again, after it was hidden."""
    text = screen.getvalue()
    assert "\x1b[?25l" in text and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_has_the_bar_and_a_line_for_each_epoch(screen):
    shown = screen(100)
    fit(callbacks=[lk.callbacks.ProgressBar(refresh=0.0)], max_epochs=2)
    lines = printed(shown)
    for epoch in (1, 2):
        done = rf"epoch {epoch}/2  \d:\d\d  loss \S+  val_loss \S+ \(best\)  accuracy \S+  \S+ examples/s"
        assert sum(bool(re.fullmatch(done, line)) for line in lines) == 1, lines
    assert any(re.match(r"epoch 1/2  [━╸─]{20} +\d+%", line) for line in lines), lines
    assert "\x1b[1;32mval_loss" in shown.getvalue() and max(map(len, lines)) <= 100
    assert_released(shown)


def test_no_colour_and_ascii_on_a_narrow_terminal(screen):
    shown = screen(40, "ascii", NO_COLOR="1")
    fit(callbacks=[lk.callbacks.ProgressBar(refresh=0.0)])
    lines = printed(shown)
    assert max(map(len, lines)) <= 40 or lines[-1].startswith("Ended by")
    assert any(re.match(r"epoch 1/1  [#-]{10}  ", line) for line in lines), lines
    assert not re.search(r"\x1b\[[\d;]*3\dm", shown.getvalue())


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(screen):
    shown = screen(100, TERM="dumb")
    fit()
    assert "\x1b" not in shown.getvalue() and shown.getvalue().startswith("epoch 1/1  ")


def drawn(total, step, began=0.0, epochs=4, seconds=None, best=None, values=None, columns=100, monkeypatch=None):
    """The bar at 100 seconds, of a run of epochs of 10 updates."""
    from types import SimpleNamespace as Space

    limit = [progress.Limit(None, seconds)] if seconds else []
    bar = lk.callbacks.ProgressBar()
    bar.set_model(Space(total_steps=total, global_step=step, shown_metrics=(), monitor=("val_loss", "min")))
    bar.set_run(Space(steps_per_epoch=10, epochs=epochs, callbacks=Space(callbacks=limit), metric_names=["val_loss"]))
    monkeypatch.setattr(progress.time, "monotonic", lambda: began)
    monkeypatch.setattr(progress, "is_terminal", lambda stream: False)
    bar.on_train_begin()
    bar.on_epoch_begin(step // 10)
    bar.best, bar.best_epoch = best or (None, None)
    bar.show_on(progress.Console(file=Terminal(), width=columns))
    bar.on_log(values or {})
    bar.model.global_step -= 1
    bar.on_train_batch_end(0)
    bar.model.global_step += 1
    monkeypatch.setattr(progress.time, "monotonic", lambda: began + 2)
    bar.on_train_batch_end(1)
    return str(bar.draw())


@pytest.mark.parametrize(
    ("run", "line"),
    [
        ({"total": 40, "step": 15}, "epoch 2/4  ━━━━━━━╸────────────   38%  5/10  0:50 left"),
        ({"total": 40, "step": 15, "best": (1.5, 1), "values": {"loss": 2.25, "loss_scale": 1.0, "x": 1.0}},
         "epoch 2/4  ━━━━━━━╸────────────   38%  loss 2.250  loss_scale 1.000  best 1.500 (epoch 1)  0:50 left"),
        ({"total": 40, "step": 15, "best": (1.5, 1), "values": {"loss": 2.25}, "columns": 40},
         "epoch 2/4  ━━━━──────  0:50 left"),
        ({"total": 40, "step": 15, "values": {"loss": 2.25}, "columns": 46},
         "epoch 2/4  ━━━━──────  loss 2.250  0:50 left"),
        ({"total": None, "step": 15, "epochs": None}, "epoch 2  5/10"),
        ({"total": None, "step": 15, "epochs": None, "seconds": 8},
         "epoch 2  ━━━━━───────────────   25%  5/10  0:06 left"),
        ({"total": 40, "step": 15, "seconds": 8}, "epoch 2/4  ━━━━━━━╸────────────   38%  5/10  0:06 left"),
    ],
)  # fmt: skip
def test_golden_bars(run, line, monkeypatch):
    assert drawn(**run, monkeypatch=monkeypatch) == line


def test_the_best_value_is_kept_over_a_resume(root, capsys):
    trainer = fit(root, max_epochs=1, enable_model_summary=False)
    first = float(re.search(r"val_loss (\S+) \(best\)", capsys.readouterr().out)[1])
    resumed = quiet(root, max_epochs=2, enable_progress_bar=True, run_eagerly=True, callbacks=[worse := Worse()])
    resumed.fit(Classifier(), PointsData(), ckpt_path=str(trainer.run_dir))
    said = capsys.readouterr().out
    assert worse.done and "(best)" not in said and f"; best val_loss {first:#.4g} at epoch 1 (10 updates" in said


class Worse(lk.Callback):
    """Makes every validation of a resumed run worse than any."""

    order = -35
    done = False

    def on_validation_end(self, record):
        record["val_loss"], self.done = 99.0, True


# ---- why a run ended, and what to do next


class Stops(lk.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"max_epochs": 1}, r"Ended by max_epochs=1; best val_loss \S+ at epoch 1 \(5 updates, \d:\d\d\)"),
        ({"max_steps": 2}, r"Ended by max_steps=2; best .* \(2 updates, \d:\d\d\)"),
        ({"max_epochs": 9, "max_time": "00:00:00:01", "callbacks": [At(1, lambda: __import__("time").sleep(1.1))]},
         r"Ended by max_time=0:01; best .* \(\d updates?, 0:\d\d\)"),
        ({"max_epochs": 3, "callbacks": [Stops()]}, r"Ended by Stops; best val_loss \S+ at epoch 1 \(5 updates, .*\)"),
        ({"max_epochs": 3, "callbacks": [At(2, interrupt)]}, r"Interrupted by SIGINT after update 2\."),
        ({"max_epochs": 3, "callbacks": [lk.EarlyStopping("loss", "max", patience=1)]},
         r"EarlyStopping: no better loss for 1 epoch, best \S+ at epoch 1 \(10 updates, .*\)"),
        ({"max_epochs": 3, "callbacks": [keras.callbacks.EarlyStopping("loss", mode="max", patience=1)]},
         r"EarlyStopping: no better loss for 1 epoch, best \S+ at epoch 1 \(10 updates, .*\)"),
    ],
)  # fmt: skip
def test_the_reason_of_the_end(arguments, reason, capsys):
    fit(**{"max_epochs": None, **arguments}, num_sanity_val_steps=0)
    assert re.fullmatch(reason, (said := capsys.readouterr().out).splitlines()[-1]), said


def test_a_callback_that_ends_a_run_is_named_without_the_bar_too(capsys):
    fit(max_epochs=3, callbacks=[Stops()], enable_progress_bar=False)
    assert re.fullmatch(r"Ended by Stops \(5 updates, \d:\d\d\)\n", capsys.readouterr().out)
    fit(max_epochs=1, enable_progress_bar=False)
    assert capsys.readouterr().out == ""


def test_reasons_of_keras_own_callbacks():
    assert reason_of(keras.callbacks.TerminateOnNaN()) == "TerminateOnNaN: the loss is not finite"


class BadPoints(PointsData):
    def setup(self, stage):
        super().setup(stage)
        self.x[:] = np.inf


def test_a_loss_that_is_not_finite_says_how_to_go_on(root, capsys):
    trainer = fit(root, max_epochs=1)
    said = capsys.readouterr().out
    assert f"Next: lightkeras test helpers.toys.Classifier --ckpt_path {trainer.run_dir}" in said
    again = quiet(root, max_epochs=2, enable_progress_bar=True, run_eagerly=True)
    with pytest.raises(lk.NonFiniteLossError) as caught:
        again.fit(Classifier(), BadPoints(), str(trainer.run_dir), allow_changes=["data"])
    assert re.search(r"epoch 2/2  ended by NonFiniteLossError after update \d+", capsys.readouterr().out)
    assert f"Resume it with ckpt_path='{trainer.run_dir}'" in caught.value.__notes__[0]


def test_a_plain_model_is_used_from_python(root, capsys):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[keras.metrics.MeanAbsoluteError("écart")], run_eagerly=True)
    trainer = quiet(root, max_epochs=1, enable_progress_bar=True)
    x = np.ones((8, 4), np.float32)
    trainer.fit(model, (x, x[:, :1]), batch_size=4)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch 1/1  \d:\d\d  loss \S+  écart \S+.*", next(x for x in lines if x.startswith("epoch")))
    assert lines[-2:] == [
        f"Next: trainer.predict(model, data, ckpt_path='{trainer.run_dir}')", f"Report: {trainer.run_dir}/report.html",
    ]  # fmt: skip


def test_names_of_tasks_in_commands():
    from tasks.text_generation import TextGeneration

    class Local(Classifier):
        pass

    assert command_name(TextGeneration) == "text_generation" and command_name(Local) is None
    assert command_name(Classifier) == "helpers.toys.Classifier"


# ---- errors


class Boom(lk.Callback):
    """An error in a callback of the user's."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyError("boom")


class Clumsy(lk.Callback):
    """Fails in the handling too."""

    def on_exception(self, error):
        raise RuntimeError("and again")


def test_an_error_leaves_the_terminal_and_the_signals_as_they_were(screen):
    shown, before = screen(), [signal.getsignal(n) for n in Interrupt.SIGNALS]
    with pytest.raises(KeyError, match="boom"):
        fit(callbacks=[Boom()])
    assert_released(shown)
    assert "epoch 1/1  ended by KeyError after update 2" in shown.getvalue()
    assert [signal.getsignal(n) for n in Interrupt.SIGNALS] == before
    with pytest.raises(RuntimeError, match="and again") as caught:
        fit(callbacks=[Boom(), Clumsy()])
    assert isinstance(caught.value.__cause__, KeyError)
    assert_released(shown)
    assert [signal.getsignal(n) for n in Interrupt.SIGNALS] == before
    assert sys.stdout is shown
