"""Ctrl-C while a corpus is simulated, spoken or written: it ends at once, with code 130, and leaves nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from brain_tuning.cli import main


def interrupted(folder: Path, *options: str, when: str) -> int:
    """Run ``corpus simulate`` and press Ctrl-C: once it speaks, or once something is written."""
    began = threading.Event()
    seen: list[str] = []

    def press() -> None:
        began.wait()
        deadline = time.monotonic() + 20
        while when == "writing" and not os.listdir(folder) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.3 if when == "speaking" else 0.02)
        seen.extend(os.listdir(folder))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    began.set()
    try:
        code = main(["corpus", "simulate", "--output", str(folder / "corpus"), *options])
        thread.join()
    except KeyboardInterrupt:  # else it would end the whole session of tests
        pytest.fail("Ctrl-C came when the command had ended, or was not turned into an exit code")
    if when == "writing":
        assert seen
        assert all(".partial-" in name for name in seen), "it was written before Ctrl-C came"
    return code


@pytest.mark.parametrize("layout", ["corpus", "ds003020"])
def test_while_writing(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    pytest.importorskip("h5py")
    options = ["--stories", "2", "--story-s", "60", "--test-story-s", "100", "--repeats", "30", "--subjects", "8"]
    assert interrupted(tmp_path, *options, "--layout", layout, when="writing") == 130
    _, err = capsys.readouterr()
    assert err.strip() == (
        "brain-tuning: interrupted; nothing half-written was left (a tuning run continues with --resume)"
    )
    assert os.listdir(tmp_path) == []


def test_while_speaking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    options = ["--stories", "40", "--story-s", "600"]  # it would speak for minutes
    assert interrupted(tmp_path, *options, when="speaking") == 130
    assert time.monotonic() - began < 10
    assert "Exception ignored" not in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
