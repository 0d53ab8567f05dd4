"""Heads of several subjects who heard the same stories, on one backbone pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from brain_tuning.errors import AdapterError

from .head import EncodingHead

#: how the subjects' heads are related
READOUTS = ("own", "shared_basis", "shared")


class GroupHead(nn.Module):
    """Several subjects' :class:`EncodingHead`, which share what does not depend on the subject.

    Normalisation over time is always shared, as all subjects hear the same features. Beyond that a ``readout`` is

    - ``own``: each subject has its own bottleneck and readout;
    - ``shared_basis``: one bottleneck for all, a readout for each (a low-rank readout on a common basis);
    - ``shared``: one head for all, whose voxels are vertices of a common surface (Moussa & Toneva 2025, who found it
      better than separate heads).

    Args:
        heads: subject -> head, all of one make; they are tied here.
        readout: see above.

    Raises:
        AdapterError: an unknown readout, no subject, or heads of different sizes are to be shared.
    """

    def __init__(self, heads: Mapping[str, EncodingHead], readout: str) -> None:
        super().__init__()
        if readout not in READOUTS or not heads:
            raise AdapterError(
                f"a group of {len(heads)} subjects with readout {readout!r}",
                expected=f"at least one subject, and one of {', '.join(READOUTS)}",
            )
        first = next(iter(heads.values()))
        if readout == "shared":
            sizes = {subject: len(head.voxels) for subject, head in heads.items()}
            if len(set(sizes.values())) > 1:
                raise AdapterError(
                    f"one readout for all needs the same number of voxels in each subject, here {sizes}",
                    expected="responses on a common surface",
                    remedy="project the responses to one surface, or set readout: shared_basis in the recipe",
                )
            heads = dict.fromkeys(heads, first)
        for head in heads.values():
            head.norm, head.read = first.norm, first.read
            if readout == "shared_basis":
                head.bottleneck = first.bottleneck
        self.how, self.subjects = readout, list(heads)
        # No ModuleDict: a subject may be called what a module may not, e.g. "sub.01".
        self.members = nn.ModuleList(heads.values())

    @property
    def first(self) -> EncodingHead:
        """The head that holds what is shared."""
        return self.members[0]  # type: ignore[return-value]

    @property
    def read(self) -> nn.Module | None:
        """The shared read of windows, if it has parameters."""
        return self.first.read

    def forward(
        self,
        features: torch.Tensor,
        n_lead_trs: int = 0,
        seen: torch.Tensor | None = None,
        subjects: Iterable[str] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Predict some subjects' responses to the same TRs; see :meth:`EncodingHead.forward`.

        Args:
            features, n_lead_trs, seen: as there.
            subjects: whose; None for all.

        Returns:
            subject -> (n_trs, n_voxels).

        Raises:
            AdapterError: there is no such subject.
        """
        delayed = self.first.delayed(features, n_lead_trs, seen)
        heads = {s: self.head_of(s) for s in (self.subjects if subjects is None else subjects)}
        if self.how == "own":
            return {s: head.readout(head.bottleneck(delayed)) for s, head in heads.items()}
        basis = self.first.bottleneck(delayed)
        if self.how == "shared":
            return dict.fromkeys(heads, self.first.readout(basis))
        return {s: head.readout(basis) for s, head in heads.items()}

    def head_of(self, subject: str) -> EncodingHead:
        """One subject's head.

        Raises:
            AdapterError: there is no such subject.
        """
        if subject not in self.subjects:
            raise AdapterError(
                f"there is no subject {subject!r} in the group", expected=f"one of {', '.join(self.subjects)}"
            )
        return self.members[self.subjects.index(subject)]  # type: ignore[return-value]
