"""Arrow tables of a corpus, in the layout of ``Dataset.save_to_disk``.

Each table is a folder of Arrow stream files with the ``datasets`` features in their schema, so that
``datasets.load_from_disk``, ``datasets.load_dataset`` and the Hub read them. We write and read them with
pyarrow alone: a run is one record batch, and slicing it out of the memory map copies nothing, which is
what reading responses at the speed of the disk takes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from brain_tuning.corpus.schema import SAMPLING_RATE_HZ
from brain_tuning.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow as pa

#: Files of about this size can be sent to the Hub, and sent again, one by one.
SHARD_BYTES = 1 << 30


def stories_schema() -> pa.Schema:
    """Arrow schema of ``stories``: one row a story."""
    from datasets import Audio, Features, List, Value

    interval = {"text": Value("string"), "start_s": Value("float64"), "end_s": Value("float64")}
    return Features(
        {
            "story": Value("string"),
            "audio": Audio(sampling_rate=SAMPLING_RATE_HZ, decode=False),
            "duration_s": Value("float64"),
            "words": List(interval),
            "phones": List(interval),
        }
    ).arrow_schema


def runs_schema() -> pa.Schema:
    """Arrow schema of ``runs-<subject>``: one row a run, with the fields of :class:`~.schema.Run`."""
    from datasets import Features, Value

    return Features(
        {
            "story": Value("string"),
            "run": Value("int32"),
            "repeat": Value("int32"),
            "split": Value("string"),
            "tr_s": Value("float64"),
            "onset_s": Value("float64"),
            "n_trs": Value("int64"),
            "first_row": Value("int64"),
            "trim": Value("string"),
        }
    ).arrow_schema


def bold_schema(n_voxels: int, dtype: str) -> pa.Schema:
    """Arrow schema of ``bold-<subject>``: one row a TR."""
    from datasets import Features, List, Value

    return Features(
        {
            "story": Value("string"),
            "run": Value("int32"),
            "repeat": Value("int32"),
            "tr": Value("int32"),
            "bold": List(Value(dtype), length=n_voxels),
        }
    ).arrow_schema


def voxels_schema() -> pa.Schema:
    """Arrow schema of ``voxels-<subject>``: one row a voxel."""
    from datasets import Features, Value

    return Features(
        {"status": Value("string"), "reason": Value("string"), "noise_ceiling": Value("float32")}
    ).arrow_schema


def regions_schema() -> pa.Schema:
    """Arrow schema of ``regions-<subject>``: one row a region."""
    from datasets import Features, List, Value

    return Features({"region": Value("string"), "kind": Value("string"), "voxels": List(Value("int32"))}).arrow_schema


def bold_batch(schema: pa.Schema, story: str, run: int, repeat: int, bold: np.ndarray) -> Mapping[str, pa.Array]:
    """Columns of one run's rows; ``bold`` of shape (n_trs, n_voxels) is wrapped, not copied."""
    import pyarrow as pa

    n_trs, n_voxels = bold.shape
    values = pa.array(np.ascontiguousarray(bold).reshape(-1))
    return {
        "story": pa.array([story] * n_trs, schema.field("story").type),
        "run": pa.array(np.full(n_trs, run, np.int32)),
        "repeat": pa.array(np.full(n_trs, repeat, np.int32)),
        "tr": pa.array(np.arange(n_trs, dtype=np.int32)),
        "bold": pa.FixedSizeListArray.from_arrays(values, n_voxels),
    }


class TableWriter:
    """Writes record batches to ``folder/data-<i>-of-<n>.arrow``; a context manager.

    Args:
        folder: the table's folder; it is created.
        schema: Arrow schema with the ``datasets`` features in its metadata.
        shard_bytes: a new file is begun once the present one holds this many bytes.
    """

    def __init__(self, folder: Path, schema: pa.Schema, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.schema, self.shard_bytes = folder, schema, shard_bytes
        self.n_rows = 0
        self._parts: list[Path] = []
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._bytes = 0

    def __enter__(self) -> TableWriter:
        self.folder.mkdir(parents=True)
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writer is not None
        if kind is not None:
            # The block's own error is the one to tell; closing a file on a full disk would raise another.
            with suppress(OSError):
                self._writer.close()
            return
        self._writer.close()
        names = [f"data-{i:05d}-of-{len(self._parts):05d}.arrow" for i in range(len(self._parts))]
        for part, name in zip(self._parts, names, strict=True):
            part.rename(self.folder / name)
        self._describe(names)

    def write(self, columns: Mapping[str, pa.Array]) -> None:
        """Append one record batch, given by its columns."""
        import pyarrow as pa

        if self._bytes >= self.shard_bytes:
            self._begin()
        batch = pa.record_batch([columns[name] for name in self.schema.names], schema=self.schema)
        assert self._writer is not None
        self._writer.write_batch(batch)
        self._bytes += batch.nbytes
        self.n_rows += batch.num_rows

    def _begin(self) -> None:
        import pyarrow as pa

        if self._writer is not None:
            self._writer.close()
        self._parts.append(self.folder / f"part-{len(self._parts)}.arrow")
        self._writer = pa.ipc.new_stream(str(self._parts[-1]), self.schema)
        self._bytes = 0

    def _describe(self, names: list[str]) -> None:
        from datasets import Features

        features = Features.from_arrow_schema(self.schema).to_dict()
        info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
        state: dict[str, object] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": uuid.uuid4().hex[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (self.folder / "dataset_info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
        (self.folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")


def write_table(folder: Path, schema: pa.Schema, columns: Mapping[str, object]) -> None:
    """Write a small table at once; ``columns`` are sequences of Python or numpy values."""
    import pyarrow as pa

    with TableWriter(folder, schema) as writer:
        writer.write({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})


def read_table(folder: Path) -> pa.Table:
    """Memory-map a table.

    Args:
        folder: a table's folder.

    Returns:
        The table, one chunk a record batch; nothing is read yet.

    Raises:
        CorpusError: the folder holds no Arrow files, too few, or damaged ones.
    """
    import pyarrow as pa

    files = sorted(folder.glob("data-?????-of-?????.arrow"))
    if not files:
        raise CorpusError("a table of the corpus is missing", where=folder, expected="data-*.arrow files")
    n_expected = int(files[0].stem.rsplit("-of-", 1)[-1])
    if len(files) != n_expected:
        raise CorpusError(
            f"a table has {len(files)} of its files",
            where=folder,
            expected=f"{n_expected} files",
            remedy="copy or download the corpus again",
        )
    return pa.concat_tables([_mapped(path) for path in files])


def _mapped(path: Path) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(
            f"a table's file is damaged: {error}", where=path, remedy="copy or download the corpus again"
        ) from error


def rows_as_matrix(table: pa.Table, column: str, first_row: int, n_rows: int) -> np.ndarray:
    """Rows of a fixed-size-list column as a matrix.

    Args:
        table: a memory-mapped table.
        column: name of the column.
        first_row: first row.
        n_rows: number of rows.

    Returns:
        Array of shape (n_rows, length of the lists). Where the rows lie in one record batch, as a run's do,
        it is a read-only view of the file and nothing was copied.
    """
    chunks = table[column].slice(first_row, n_rows).chunks
    parts = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(len(chunk), -1) for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
