"""Peak memory of one side of a benchmark, in a fresh process.

The process prepares the case, gives freed memory back to the system, and sets the kernel's high-water mark of its
resident memory to what it holds at that moment (``/proc/self/clear_refs``); then it runs the side once and reads the
mark. The growth is what the work itself takes: its inputs, and the libraries that both sides import, are there before.
Where the kernel has no such mark, ``ru_maxrss`` stands in; it forgets nothing, so that growth below what preparing the
case took is then not seen. On a GPU the mark is that of torch's allocator.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.harness import Benchmark

_CHECKOUT = Path(__file__).resolve().parents[1]
_STATUS, _MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Peak:
    """Memory of a process that ran one side once, in bytes.

    Attributes:
        growth: greatest resident memory while the side ran, less what was resident before.
        resident: greatest resident memory while the side ran, inputs and libraries included.
    """

    growth: int
    resident: int


def peak_in_fresh_process(
    benchmark: Benchmark, case_name: str, side: str, sizes: Any, folder: Path, device: str
) -> Peak:
    """Measure one side.

    Args:
        benchmark: module with the case; imported anew by the process.
        case_name: one of its ``CASES``.
        side: ``ours`` or ``peer``.
        sizes: a ``Sizes`` of the module, of plain numbers.
        folder: the files that the case reads.
        device: ``cpu`` or ``cuda``.

    Returns:
        The peak.

    Raises:
        subprocess.CalledProcessError: the process failed; its error is on standard error.
    """
    asked = json.dumps([benchmark.__name__, case_name, side, asdict(sizes), str(folder), device])
    command = [sys.executable, "-c", "from benchmarks.memory import main; main()", asked]
    printed = subprocess.run(command, cwd=_CHECKOUT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Peak(**json.loads(printed.splitlines()[-1]))


def main() -> None:
    """What the fresh process does."""
    module, case_name, side_name, sizes, folder, device = json.loads(sys.argv[1])
    benchmark: Any = import_module(module)
    case = benchmark.CASES[case_name](benchmark.Sizes(**sizes), Path(folder), device)
    side = getattr(case, side_name)
    if side.before is not None:
        side.before()
    print(json.dumps(asdict(_device_peak(side.run) if device == "cuda" else _host_peak(side.run))))


def _host_peak(run: Any) -> Peak:
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    marked = True
    try:
        _MARK.write_text("5")
        before = _status("VmRSS")
    except OSError:
        marked, before = False, _max_rss()
    result = run()
    peak = _status("VmHWM") if marked else _max_rss()
    del result
    return Peak(growth=max(0, peak - before), resident=peak)


def _device_peak(run: Any) -> Peak:
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del result
    return Peak(growth=peak - before, resident=peak)


def _status(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {key}")


def _max_rss() -> int:
    # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
