"""Which of several processes this is, as ``accelerate launch`` or ``torchrun`` has started them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState


def on_cpu() -> bool:
    """Whether Accelerate is to be told that processes work on the CPU.

    Where there is no GPU, each of several processes would otherwise take itself for the only one: all of them would do
    all the work, and write the same files.
    """
    import torch
    from accelerate.utils import parse_flag_from_env

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return parse_flag_from_env("ACCELERATE_USE_CPU") or (several and not torch.cuda.is_available())


def this_process() -> PartialState:
    """This process among the others."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())
