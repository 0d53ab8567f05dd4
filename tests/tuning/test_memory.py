"""Memory of tensors that are alive, counted without data: closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from brain_tuning.tuning.memory import LiveStorages, imagined, imagining, step_memory

CPU = torch.device("cpu")


class Doubling(nn.Module):
    """A model with the loop's manners whose memory is known: each layer keeps its input, one vector of ``n``."""

    def __init__(self, n: int, n_layers: int) -> None:
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(n)) for _ in range(n_layers)])
        self.head = nn.Identity()

    def forward(self, values: torch.Tensor, loss: str) -> Any:
        hidden = values
        for scale in self.scales:
            hidden = hidden * scale
        output = nn.Identity()
        output.loss = self.head(hidden).sum()
        return output


def test_a_storage_counts_once_and_until_its_last_tensor_is_gone() -> None:
    with LiveStorages() as counter:
        first = torch.zeros(1000)
        view = first[10:].view(-1, 10)
        assert counter.live == 4000
        second = first + 1
        assert counter.live == 8000
        del first
        assert counter.live == 8000
        del view
        assert (counter.live, counter.since_last()) == (4000, 8000)
        second.add_(1)
        assert (counter.live, counter.since_last()) == (4000, 4000)


def test_what_was_there_before_counts_when_it_is_tracked() -> None:
    parameter = nn.Parameter(torch.zeros(8, 8))
    with LiveStorages() as counter:
        counter.track([parameter, parameter.view(64), "no tensor", None])
        assert counter.live == 256


@pytest.mark.parametrize("imaginary", [False, True])
def test_the_step_of_a_chain_of_products_is_known_in_closed_form(imaginary: bool) -> None:
    n, n_layers, vector = 1000, 5, 4000
    model = Doubling(n, n_layers)

    def step(model: Any, counter: LiveStorages) -> Any:
        optimiser = torch.optim.Adam(model.parameters())
        return step_memory(model, {"values": torch.ones(n)}, optimiser, loss="none", counter=counter)

    if imaginary:
        with imagining(CPU) as counter:
            found = step(imagined(model, CPU), counter)
    else:
        found = step(model, LiveStorages())
    steps = 4 * n_layers  # Adam counts its steps in a float32 for each parameter
    assert (found.weights, found.gradients, found.optimiser) == (
        n_layers * vector, n_layers * vector, 2 * n_layers * vector + steps
    )  # fmt: skip
    held = found.weights + found.optimiser + vector
    # Each product but the last is the next one's input, and kept; of the last, only the sum is left.
    assert (found.activations, found.readout) == ((n_layers - 1) * vector, 4)
    # All products, and the sum.
    assert found.forward == held + n_layers * vector + 4
    assert found.backward > found.forward
    # All gradients, the sum, and what Adam needs for one parameter at a time.
    assert held + found.gradients + vector <= found.update - 4 <= held + found.gradients + 3 * vector
