"""Reads a region file: which voxels belong to which region."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from brain_tuning.errors import RegionError


def read_regions(path: str | Path) -> dict[str, np.ndarray]:
    """Voxel indices by region.

    Args:
        path: YAML or JSON mapping of region names to lists of voxel indices, or an npz with one array of
            indices, or one boolean mask over all voxels, per region.

    Returns:
        Integer arrays by name of the region.

    Raises:
        RegionError: the file is missing, of another kind or form.
    """
    path = Path(path)
    if not path.is_file():
        raise RegionError("no such region file", where=path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _indices(arrays[name], f"{path}: {name}") for name in arrays.files}
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise RegionError("unknown kind of region file", where=path, expected=".yaml, .json or .npz")
    mapping = _parsed(path)
    if not isinstance(mapping, dict):
        raise RegionError("a region file holds no mapping", where=path, expected="region: [voxel, ...]")
    return {str(name): _indices(np.asarray(voxels), f"{path}: {name}") for name, voxels in mapping.items()}


def _parsed(path: Path) -> object:
    import yaml

    from brain_tuning.strict_yaml import parse_yaml

    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        raise RegionError(f"the region file cannot be parsed: {error}", where=path) from error


def _indices(voxels: np.ndarray, where: str) -> np.ndarray:
    if voxels.dtype == bool and voxels.ndim == 1:
        return np.flatnonzero(voxels)
    if voxels.ndim != 1 or (voxels.size and voxels.dtype.kind not in "iu"):
        raise RegionError(
            f"a region of shape {voxels.shape} and type {voxels.dtype}",
            where=where,
            expected="a list of voxel indices or a boolean mask",
        )
    return voxels.astype(np.int64)
