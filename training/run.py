"""Tune: ``accelerate launch training/run.py --recipe RECIPE --corpus DIR --subject S --roi ROI --output DIR``."""

from __future__ import annotations

import argparse
import sys

from brain_tuning.terminal import run_command
from brain_tuning.tuning.command import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args()
    sys.exit(run_command(lambda: run(args)))
