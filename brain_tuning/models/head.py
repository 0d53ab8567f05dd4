"""From features at TR rate to predicted voxels: normalise over time, delay, read out at low rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from brain_tuning.errors import TimingError
from brain_tuning.timing import fir_delays


class TemporalNorm(nn.Module):
    """z-score each feature over time.

    While training, mean and variance are those of the block of TRs at hand, and running estimates follow
    them (momentum 0.1; the first block sets them); in evaluation the running estimates are used, so the
    prediction of one TR does not depend on which others are asked for.

    Source: Vattikonda et al. 2025 (instance normalisation over the training block).
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    n_blocks: torch.Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("n_blocks", torch.zeros((), dtype=torch.long))

    def forward(self, features: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Normalise.

        Args:
            features: (n_trs, width).
            seen: (n_trs,) bool, False where no audio reaches; such TRs stay zero and out of the estimates.

        Raises:
            TimingError: while training, no TR of the block is seen: there is nothing to estimate from.
        """
        if seen is None:
            seen = torch.ones(len(features), dtype=torch.bool, device=features.device)
        if self.training:
            if not bool(seen.any()):
                raise TimingError(
                    f"audio reaches none of the {len(features)} TRs of this block",
                    expected="TRs while the story is heard",
                    remedy="check the audio onset and the trim of TRs",
                )
            mean = features[seen].mean(0)
            var = features[seen].var(0, unbiased=False)
            with torch.no_grad():
                share = 1.0 if int(self.n_blocks) == 0 else self.momentum
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(var.detach(), share)
                self.n_blocks += 1
        else:
            mean, var = self.running_mean, self.running_var
        return (features - mean) * torch.rsqrt(var + self.eps) * seen[:, None]


class ConvolutionRead(nn.Module):
    """One vector a window: convolution over its frames, GELU, mean over time.

    Args:
        width: of the backbone's features.
        channels: of the convolution.
        kernel_frames, stride_frames: of the convolution; half a kernel of zeros on either side, so that windows of
            any length have a value.

    Source: after the "neural-encoding head" of Li et al. 2024, whose sizes are not published.
    """

    def __init__(self, width: int, channels: int, kernel_frames: int, stride_frames: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(width, channels, kernel_frames, stride_frames, padding=kernel_frames // 2)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(n_windows, n_frames, width) -> (n_windows, channels)."""
        return nn.functional.gelu(self.convolution(frames.transpose(1, 2))).mean(2)


class EncodingHead(nn.Module):
    """TR-rate features -> voxels of one subject and region.

    Args:
        width: of the backbone's features.
        n_voxels: to predict.
        delays_trs: FIR delays in TRs.
        bottleneck: rank of the readout, Linear(width x delays -> bottleneck -> voxels); 0 is one Linear.
        normalise: z-score features over time first.
        convolution: settings of a :class:`ConvolutionRead` that turns windows into features; None if they are read
            without parameters.

    The buffer ``voxels`` (n_voxels,), int32, says which columns of the subject's responses are predicted.
    """

    voxels: torch.Tensor

    def __init__(
        self,
        width: int,
        n_voxels: int,
        delays_trs: Sequence[int],
        bottleneck: int,
        *,
        normalise: bool = True,
        convolution: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.delays_trs = list(delays_trs)
        self.read = ConvolutionRead(width, **convolution) if convolution else None
        width = int(convolution["channels"]) if convolution else width
        delayed = width * len(self.delays_trs)
        self.norm = TemporalNorm(width) if normalise else None
        self.bottleneck = nn.Linear(delayed, bottleneck) if bottleneck else nn.Identity()
        self.readout = nn.Linear(bottleneck or delayed, n_voxels)
        self.register_buffer("voxels", torch.arange(n_voxels, dtype=torch.int32))

    def delayed(self, features: torch.Tensor, n_lead_trs: int, seen: torch.Tensor | None) -> torch.Tensor:
        """Normalised and delayed features of the predicted TRs, (n_trs, width x delays); see :meth:`forward`."""
        if self.norm is not None:
            features = self.norm(features, seen)
        return fir_delays(features, self.delays_trs)[n_lead_trs:]

    def forward(self, features: torch.Tensor, n_lead_trs: int = 0, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Predict.

        Args:
            features: (n_lead_trs + n_trs, width), TRs of one run in time order.
            n_lead_trs: TRs at the start that only feed the delays and are not predicted.
            seen: (n_lead_trs + n_trs,) bool, False where no audio reaches the TR.

        Returns:
            (n_trs, n_voxels).
        """
        return self.readout(self.bottleneck(self.delayed(features, n_lead_trs, seen)))
