"""How a command ends: one line for an error, an exit code that says which kind it was, and Ctrl-C that is heard."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import BrainTuningError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def run_command(command: Callable[[], object]) -> int:
    """Run a command; turn our errors, and forbidden files, into one line on standard error.

    Returns:
        0, 2 for such an error, or 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpx2", "datasets", "accelerate", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        command()
    except BrainTuningError as error:
        print(f"brain-tuning: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except PermissionError as error:
        # Even to ask whether a file exists is forbidden below some folders; that is no fault of a program's.
        where = f" [{error.filename}]" if error.filename is not None else ""
        print(
            f"brain-tuning: error: {error.strerror}{where}; remedy: ask for the right to read or write there, "
            "or name another place",
            file=sys.stderr,
        )
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(
            "\nbrain-tuning: interrupted; nothing half-written was left (a tuning run continues with --resume)",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    return 0


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended.

    Needed around C libraries that call Python back (eSpeak NG; libsndfile on bytes): ctypes and cffi print what
    a callback raises and go on, so that Ctrl-C would be lost and the library given a wrong answer.
    """
    # Only the main thread ever sees Ctrl-C, and only it may set handlers.
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)
