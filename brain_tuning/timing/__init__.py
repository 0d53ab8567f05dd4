"""Seconds, frames and TRs, and exact ways from one to the other."""

from .delays import fir_delays
from .lanczos import lanczos_matrix, mean_matrix
from .windows import FrameGrid, WindowGroup, WindowPlan

__all__ = ["FrameGrid", "WindowGroup", "WindowPlan", "fir_delays", "lanczos_matrix", "mean_matrix"]
