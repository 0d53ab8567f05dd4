"""How commands end, and Ctrl-C within C libraries that call Python back."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from brain_tuning.corpus.audio import decode_flac, encode_flac
from brain_tuning.errors import CorpusError
from brain_tuning.terminal import interrupts_held, run_command


def raises(error: BaseException) -> None:
    raise error


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: None) == 0
    assert capsys.readouterr().err == ""
    error = CorpusError("it is\nbroken", where=Path("here"), expected="better", remedy="mend it")
    assert run_command(lambda: raises(error)) == 2
    assert capsys.readouterr().err == "brain-tuning: error: it is broken [here]; expected better; remedy: mend it\n"
    assert run_command(lambda: raises(KeyboardInterrupt())) == 130
    assert "interrupted; nothing half-written was left" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):  # what is not foreseen is not dressed up
        run_command(lambda: raises(ZeroDivisionError()))


def test_a_forbidden_place_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: raises(PermissionError(errno.EACCES, "Permission denied", "sealed/x"))) == 2
    said = capsys.readouterr().err
    assert said.startswith("brain-tuning: error: Permission denied [sealed/x]; remedy: ask for the right")
    assert said.count("\n") == 1
    with pytest.raises(FileNotFoundError):  # a file that we forgot to look for is our own fault
        run_command(lambda: raises(FileNotFoundError(errno.ENOENT, "No such file", "x")))


def test_ctrl_c_waits_for_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("all")
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_that_was_there_is_called() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            assert heard == []
        assert heard == [signal.SIGINT]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone() -> None:
    done = []

    def work() -> None:
        with interrupts_held():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_ctrl_c_is_not_lost_in_libsndfile(direction: str) -> None:
    """It reads and writes bytes through Python callbacks, in which cffi prints Ctrl-C and goes on."""
    audio = (np.random.default_rng(0).standard_normal(16_000 * 5) / 10).astype(np.float32)
    data = encode_flac(audio)
    for delay_s in (0.002, 0.003, 0.005, 0.007):
        timer = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
        deadline = time.monotonic() + 2
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            timer.start()
            while time.monotonic() < deadline:
                decode_flac(data) if direction == "decode" else encode_flac(audio)
        timer.join()
