"""Evaluate: ``python evaluation/run.py --corpus DIR --subject S --model RUN --output DIR``."""

from __future__ import annotations

import argparse
import sys

from brain_tuning.analysis.command import add_arguments, run
from brain_tuning.terminal import run_command

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args()
    sys.exit(run_command(lambda: run(args)))
