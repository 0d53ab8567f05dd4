"""Pearson correlation of predicted and measured responses, voxel by voxel, in one pass over the TRs."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from brain_tuning.encoding.scores import MIN_CEILING, PearsonSums, summarise_by_region
from brain_tuning.errors import EncodingError

_DESCRIPTION = """
Pearson correlation over time between predicted and measured fMRI responses for each voxel, and its mean and
median over voxels, raw and divided by the noise ceiling. Batches of TRs are reduced to seven float64 numbers
a voxel as they arrive. Voxels whose correlation is not defined are NaN and counted, never 0.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: predicted responses (n_trs, n_voxels), array or tensor.
    references: measured responses (n_trs, n_voxels), array or tensor.
    noise_ceiling: greatest reachable correlation of each voxel (n_voxels,), NaN where unknown.
    min_ceiling: voxels with a lower ceiling are left out of the normalised mean.
    return_per_voxel: also return the correlation of each voxel.
Returns:
    mean_r, median_r: over the voxels whose correlation is defined.
    n_voxels, n_nan: number of voxels, and of those without a correlation.
    n_trs: number of TRs seen.
    r_normalised, mean_ceiling, n_normalised: with a noise ceiling: mean of r / ceiling, the mean ceiling,
        and the number of voxels in both.
    per_voxel: (n_voxels,) float64, on request.
"""

_CITATION = """
@article{schoppe2016measuring,
  title={Measuring the performance of neural models},
  author={Schoppe, Oliver and Harper, Nicol S and Willmore, Ben DB and King, Andrew J and Schnupp, Jan WH},
  journal={Frontiers in Computational Neuroscience}, volume={10}, year={2016}}
"""


class VoxelwisePearson(evaluate.Metric):
    """Streams batches into :class:`PearsonSums`; nothing is written to Arrow."""

    _pearson: PearsonSums | None = None

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **_: Any) -> None:
        """Add a batch of TRs: predictions and references of shape (n_trs, n_voxels)."""
        if self._pearson is None:
            self._pearson = PearsonSums()
        self._pearson.add(_array(predictions), _array(references))

    def add(self, *, prediction: Any = None, reference: Any = None, **_: Any) -> None:
        """Add one TR: prediction and reference of shape (n_voxels,)."""
        self.add_batch(predictions=_array(prediction)[None], references=_array(reference)[None])

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        noise_ceiling: Any = None,
        min_ceiling: float = MIN_CEILING,
        return_per_voxel: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Finish: the scores of everything added since the last call."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        sums, self._pearson = self._pearson, None
        if sums is None:
            raise EncodingError("nothing to score", remedy="call add_batch, or pass predictions and references")
        return self._compute(sums, noise_ceiling, min_ceiling, return_per_voxel)

    def _compute(
        self, sums: PearsonSums, noise_ceiling: Any, min_ceiling: float, return_per_voxel: bool
    ) -> dict[str, Any]:
        r = sums.r()
        ceiling = None if noise_ceiling is None else _array(noise_ceiling)
        (row,) = summarise_by_region(r, {"all": np.arange(r.size)}, ceiling, min_ceiling)
        scores = {key: row[key] for key in ("mean_r", "median_r", "n_voxels", "n_nan")}
        scores["n_trs"] = sums.n_trs
        if ceiling is not None:
            scores["r_normalised"] = row["mean_r_normalised"]
            scores["mean_ceiling"] = row["mean_ceiling"]
            scores["n_normalised"] = row["n_normalised"]
        if return_per_voxel:
            scores["per_voxel"] = r
        return scores


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().float().cpu()
    return np.asarray(values)
