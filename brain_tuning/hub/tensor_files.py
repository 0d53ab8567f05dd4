"""Safetensors files that are to be published: well-formed, of the right dtype, and finite throughout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from brain_tuning.errors import PublishError

#: dtype in the file -> (unsigned integer of the same width, mask of the exponent's bits)
_EXPONENTS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
_INTEGERS = frozenset(["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"])
_CHUNK_BYTES = 2**24


def check_tensor_file(path: Path, name: str, *, float_dtype: str | None = None) -> dict[str, tuple[int, ...]]:
    """Read a safetensors file once, in chunks, and prove that every tensor in it is finite.

    A floating-point number is infinite or NaN exactly if all bits of its exponent are set (IEEE 754); that
    needs no conversion and holds for bfloat16 too, which numpy lacks.

    Args:
        path: the file.
        name: what to call the file in an error.
        float_dtype: dtype that all floating-point tensors must have, e.g. ``"F32"``; None for any.

    Returns:
        The shape of every tensor by name.

    Raises:
        PublishError: the header does not parse, there is no tensor, a dtype is not allowed, or a value is
            not finite.
    """
    try:
        with safe_open(path, framework="np") as opened:
            names = list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise PublishError(
            f"the safetensors file cannot be read ({error})",
            where=name,
            remedy="write the file again: it is damaged or incomplete",
        ) from error
    if not names:
        raise PublishError("the safetensors file holds no tensor", where=name)
    shapes = {}
    with path.open("rb") as file:
        n_header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n_header_bytes))
        for tensor in names:
            entry = header[tensor]
            begin, end = entry["data_offsets"]
            file.seek(8 + n_header_bytes + begin)
            _check_dtype(entry["dtype"], f"{name}: {tensor}", float_dtype)
            if entry["dtype"] in _EXPONENTS:
                n_bad = sum(
                    _count_not_finite(file.read(min(_CHUNK_BYTES, end - at)), entry["dtype"])
                    for at in range(begin, end, _CHUNK_BYTES)
                )
                if n_bad:
                    n_values = math.prod(entry["shape"])
                    raise PublishError(
                        f"{n_bad} of {n_values} values are not finite",
                        where=f"{name}: {tensor}",
                        expected="finite weights",
                        remedy="publish an earlier checkpoint, from before the loss diverged",
                    )
            shapes[tensor] = tuple(entry["shape"])
    return shapes


def _count_not_finite(chunk: bytes, dtype: str) -> int:
    integer, mask = _EXPONENTS[dtype]
    exponents = np.frombuffer(chunk, dtype=integer) & mask
    return int(np.count_nonzero(exponents == mask))


def _check_dtype(dtype: str, where: str, float_dtype: str | None) -> None:
    if dtype not in _EXPONENTS and dtype not in _INTEGERS:
        raise PublishError("the dtype is not published", where=f"{where} is {dtype}", expected="F32")
    if float_dtype is not None and dtype in _EXPONENTS and dtype != float_dtype:
        raise PublishError(
            "the merged weights have lost precision",
            where=f"{where} is {dtype}",
            expected=float_dtype,
            remedy="merge and save in float32: a tuned difference drowns in half precision",
        )
