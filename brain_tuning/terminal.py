"""How a command ends: one line for an error, and an exit code that says which kind it was."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from .errors import BrainTuningError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def run_command(command: Callable[[], object]) -> int:
    """Run a command; turn our errors into one line on standard error.

    Returns:
        0, 2 for an error of ours, or 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "datasets", "accelerate", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        command()
    except BrainTuningError as error:
        print(f"brain-tuning: error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(
            "\nbrain-tuning: interrupted; nothing half-written was left (a tuning run continues with --resume)",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    return 0
