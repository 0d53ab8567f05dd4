"""Which process this is: accelerate alone takes each of several on a CPU for the only one."""

from __future__ import annotations

import pytest
import torch

from brain_tuning.processes import on_cpu


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "2"}, not torch.cuda.is_available()),
        ({"ACCELERATE_USE_CPU": "true"}, True),
        ({"ACCELERATE_USE_CPU": "false"}, False),
    ],
)
def test_cpu_is_named_where_it_must_be(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name in ("WORLD_SIZE", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert on_cpu() is expected
