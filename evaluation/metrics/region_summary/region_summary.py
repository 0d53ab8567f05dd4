"""Mean score of each region of cortex from the scores of its voxels."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from brain_tuning.encoding.scores import MIN_CEILING, summarise_by_region
from brain_tuning.errors import EncodingError

_DESCRIPTION = """
Mean of voxelwise scores in each region, raw and divided by the noise ceiling, always both, with the number of
voxels that have no score and of those whose ceiling is too low to divide by.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: score (Pearson r) of each voxel (n_voxels,), NaN where there is none.
    regions: name -> indices or boolean mask (n_voxels,) of the region's voxels.
    noise_ceiling: greatest reachable correlation of each voxel (n_voxels,), NaN where unknown.
    min_ceiling: voxels with a lower ceiling are left out of the normalised mean.
Returns:
    regions: one dict a region with region, n_voxels, n_nan, mean_r, median_r and, with a noise ceiling,
        mean_ceiling, mean_r_normalised, n_normalised, n_below_floor.
"""


class RegionSummary(evaluate.Metric):
    """Wraps :func:`summarise_by_region`; nothing is written to Arrow."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Value("float64")}),
        )

    def compute(
        self,
        *,
        predictions: Any = None,
        regions: Any = None,
        noise_ceiling: Any = None,
        min_ceiling: float = MIN_CEILING,
        **_: Any,
    ) -> dict[str, Any]:
        """Summarise the scores of all voxels at once."""
        if predictions is None or regions is None:
            raise EncodingError("nothing to summarise", expected="predictions=(n_voxels,) and regions={name: voxels}")
        return self._compute(predictions, regions, noise_ceiling, min_ceiling)

    def _compute(self, predictions: Any, regions: Any, noise_ceiling: Any, min_ceiling: float) -> dict[str, Any]:
        scores = np.asarray(predictions, dtype=np.float64)
        return {"regions": summarise_by_region(scores, regions, noise_ceiling, min_ceiling)}
