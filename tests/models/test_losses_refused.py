"""What losses are not to be given: each refusal says what is wrong with it."""

from __future__ import annotations

import pytest
import torch
from loss_blocks import ALL, NAN, block

from brain_tuning.errors import EncodingError
from brain_tuning.models.losses import (
    LOSSES,
    Loss,
    ceiling_weighted_loss,
    nt_xent_loss,
)


@ALL
def test_arrays_of_other_shapes_are_refused(loss: Loss) -> None:
    prediction, bold, ceiling = block()
    with pytest.raises(EncodingError, match=r"prediction has shape \(6, 9\), BOLD \(6, 8\); expected equal shapes"):
        loss(prediction, bold[:, :8], ceiling)


@ALL
@pytest.mark.parametrize("axes", [1, 3])
def test_arrays_of_other_than_two_axes_are_refused(loss: Loss, axes: int) -> None:
    """Of a stack of blocks the correlation would be taken along the wrong axis."""
    prediction, bold, ceiling = block()
    prediction, bold = (values[0] if axes == 1 else values.view(2, 3, 9) for values in (prediction, bold))
    with pytest.raises(EncodingError, match=r"expected equal shapes \(n_trs, n_voxels\)"):
        loss(prediction, bold, ceiling)


@pytest.mark.parametrize(
    ("name", "left", "needed"),
    [
        ("spatial_correlation", 1, 2),
        ("mse", 0, 1),
        ("temporal_correlation", 0, 1),
        ("spatial_correlation_mse", 1, 2),
        ("cosine_huber", 0, 1),
        ("nt_xent", 0, 1),
        ("ceiling_weighted", 1, 2),
    ],
)
def test_too_few_voxels_are_refused(name: str, left: int, needed: int) -> None:
    prediction, bold, ceiling = block()
    bold[0, left:] = NAN
    with pytest.raises(EncodingError) as caught:
        LOSSES[name](prediction, bold, ceiling)
    assert str(caught.value).startswith(f"{left} of 9 voxels are free of NaN in this block; expected at least {needed}")
    bold = block()[1]
    bold[0, needed:] = NAN
    assert bool(LOSSES[name](prediction, bold, ceiling).isfinite())


@pytest.mark.parametrize(
    ("name", "needed"), [(name, {"temporal_correlation": 3, "nt_xent": 2}.get(name, 1)) for name in LOSSES]
)
def test_too_few_trs_are_refused(name: str, needed: int) -> None:
    prediction, bold, ceiling = block()
    with pytest.raises(EncodingError) as caught:
        LOSSES[name](prediction[: needed - 1], bold[: needed - 1], ceiling)
    assert str(caught.value) == (
        f"the block has too few TRs for this loss: {needed - 1}; expected at least {needed}; "
        "remedy: choose a larger block_trs in the recipe, or another loss"
    )
    assert bool(LOSSES[name](prediction[:needed], bold[:needed], ceiling).isfinite())


def test_a_missing_ceiling_is_refused() -> None:
    prediction, bold, _ = block()
    with pytest.raises(EncodingError) as caught:
        ceiling_weighted_loss(prediction, bold)
    assert str(caught.value) == (
        "this loss needs the voxels' noise ceiling, and there is none [ceiling_weighted]; "
        "expected noise_ceiling of shape (n_voxels,); "
        "remedy: use a corpus with a repeated story or a given noise ceiling, or another loss"
    )


def test_a_ceiling_of_other_voxels_is_refused() -> None:
    prediction, bold, ceiling = block()
    with pytest.raises(EncodingError, match=r"noise ceiling has shape \(8,\) \[ceiling_weighted\]; expected \(9,\)"):
        ceiling_weighted_loss(prediction, bold, ceiling[:8])


@pytest.mark.parametrize(("positive", "n"), [([], 0), ([3], 1), ([3, 4], 1)])
def test_a_ceiling_that_weighs_nothing_is_refused(positive: list[int], n: int) -> None:
    prediction, bold, _ = block()
    bold[5, 4] = NAN  # its ceiling does not count
    ceiling = torch.tensor([-0.2, NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, NAN])
    ceiling[positive] = 0.5
    with pytest.raises(EncodingError) as caught:
        ceiling_weighted_loss(prediction, bold, ceiling)
    assert str(caught.value) == (
        f"the noise ceiling is above 0 in {n} of 8 usable voxels [ceiling_weighted]; expected at least 2; "
        "remedy: choose a region that responds to the stories, or another loss"
    )


@pytest.mark.parametrize("temperature", [0.0, -0.5, NAN])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    prediction, bold, _ = block()
    with pytest.raises(EncodingError, match=rf"the temperature is {temperature} \[nt_xent\]; expected above 0"):
        nt_xent_loss(prediction, bold, temperature=temperature)
