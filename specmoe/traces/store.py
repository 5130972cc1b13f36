"""Trace files: Parquet, read as a stream of row groups and written atomically; and the traces bundled with the package.

Parquet stores each list column as one flat column of values, so a reshape turns a row group into a numpy array
[n, L, M], or [n, L, D, M]. Ids and probabilities are stored byte by byte (BYTE_STREAM_SPLIT) before zstd, which then
codes ids by their frequencies: 24,209 tokens of gpt-oss-20b take 4.2 MB, against 5.1 MB with dictionaries, at equal
reading speed. Bundled traces are `specmoe/bundled/<model>/<phase>/<split>.parquet`. `train_beside` and `open_train`
find the train split of a trace, on which predictors and popularity are trained.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from specmoe.errors import InputError, TraceError, hint
from specmoe.files import parsing, replacing, require_regular
from specmoe.traces.schema import METADATA_KEY, ROW_GROUP, Block, TraceMeta, arrow_schema, to_arrow

SUFFIX = ".parquet"
ALL_DOMAINS = ("all",)  # of a train split
_LISTS = ("experts", "probs", "lookahead")
_DTYPES: Mapping[str, DTypeLike] = dict(zip(Block._fields, ("i4", "i4", "i2", "i4", "i2", "f2", "i2"), strict=True))

_ENCODING = {"sequence": "DELTA_BINARY_PACKED", "position": "DELTA_BINARY_PACKED", "token": "BYTE_STREAM_SPLIT"} | {
    f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in _LISTS
}


def open(name_or_path: str | Path, domains: Sequence[str] = ()) -> "Trace":
    """Open a trace file by its path, or a bundled trace by its name, e.g. `switch-mini-128/decode/test`.

    `domains` restricts it to sequences of these text domains, e.g. `("fiction",)`. Raises InputError if neither exists
    and for a domain without tokens in the trace, TraceError if the file is not a trace.
    """
    path = Path(name_or_path)
    trace = Trace(path if path.exists() else path_of(str(name_or_path)))
    return trace.of_domains(domains) if domains else trace


def names() -> tuple[str, ...]:
    """Sorted names of the bundled traces, e.g. `switch-mini-128/decode/test`."""
    return _names_in(root())


@cache
def _names_in(directory: Path) -> tuple[str, ...]:
    paths = directory.rglob(f"*{SUFFIX}")
    return tuple(sorted(path.relative_to(directory).with_suffix("").as_posix() for path in paths))


def path_of(name: str) -> Path:
    """File of a bundled trace; for an unknown name, raises InputError that suggests the nearest names."""
    bundled = names()
    if name in bundled:
        return root() / f"{name}{SUFFIX}"
    instead = hint(name, bundled) if bundled else "none is bundled"
    raise InputError(f"{name}: neither a file nor a bundled trace: {instead} (`specmoe traces list`)")


def root() -> Path:
    """Directory of the bundled traces; it may be absent in a source tree."""
    return Path(str(files("specmoe") / "bundled"))


class Trace:
    """A trace file open for reading; only its footer is read at once, columns on first access.

    Arrays are read-only. Raises TraceError if the file is not a trace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self.meta = _open_checked(path)
        self.num_tokens: int = self._file.metadata.num_rows
        rows = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._groups = [group for group, number in enumerate(rows) if number]
        self._begins = np.cumsum([0, *rows])
        self.domains: tuple[str, ...] = ()  # to which it is restricted; none: all
        self._selected: NDArray[np.bool_] | None = None  # of the file's rows; None: all

    def __len__(self) -> int:
        return self.num_tokens

    def __repr__(self) -> str:
        return f"Trace({str(self.path)!r}, {self.num_tokens} tokens, {self.meta.num_layers} layers)"

    def of_domains(self, domains: Sequence[str]) -> "Trace":
        """The same file, restricted to sequences whose first token is of one of these text domains.

        Raises InputError that names the nearest domain for one that begins no sequence.
        """
        starts = np.ones(len(self), np.bool_)
        starts[1:] = self.sequence[1:] != self.sequence[:-1]
        present = {self.meta.sources[code]: code for code in np.unique(self.source[starts])}
        for domain in domains:
            if domain not in present:
                raise InputError(f"source {domain!r}: {self.path} has no text of that domain: {hint(domain, present)}")
        wanted = np.isin(self.source[starts], [present[domain] for domain in domains])
        restricted = Trace(self.path)
        restricted.domains = tuple(domains)
        restricted._selected = wanted[np.cumsum(starts) - 1]
        restricted.num_tokens = int(restricted._selected.sum())
        restricted._groups = [group for group in self._groups if restricted._selected[restricted._rows(group)].any()]
        return restricted

    def blocks(self, columns: Iterable[str] | None = None) -> Iterator[Block]:
        """One block per row group; columns that are not requested are empty arrays."""
        names = list(Block._fields if columns is None else columns)
        for group in self._groups:
            yield Block(**self._absent() | self._read_group(group, names))

    @property
    def group_begins(self) -> NDArray[np.int64]:
        """The first row of each row group of the file, and the number of all rows."""
        return self._begins

    def group(self, number: int, columns: Iterable[str]) -> Block:
        """The rows of one row group of the file; columns that are not requested are empty arrays."""
        return Block(**self._absent() | self._read_group(number, list(columns)))

    def read(self, columns: Iterable[str] = Block._fields) -> Block:
        """All rows, sharing arrays with the properties below; columns that are not requested are empty arrays."""
        return Block(**self._absent() | {name: getattr(self, name) for name in columns})

    @cached_property
    def sequence(self) -> NDArray[np.int32]:
        """Sequence number of each token, [n]."""
        return self._read_column("sequence")

    @cached_property
    def position(self) -> NDArray[np.int32]:
        """Position of each token in its sequence, [n]."""
        return self._read_column("position")

    @cached_property
    def source(self) -> NDArray[np.int16]:
        """Text domain of each token, [n]: codes into `meta.sources`."""
        return self._read_column("source")

    @cached_property
    def token(self) -> NDArray[np.int32]:
        """Token ids, [n]."""
        return self._read_column("token")

    @cached_property
    def experts(self) -> NDArray[np.int16]:
        """Candidates, [n, L, M], the used experts first."""
        return self._read_column("experts")

    @cached_property
    def probs(self) -> NDArray[np.float16]:
        """Router probabilities of the candidates, [n, L, M]."""
        return self._read_column("probs")

    @cached_property
    def lookahead(self) -> NDArray[np.int16]:
        """Look-ahead candidates, [n, L, D, M], depth d at index d - 1."""
        return self._read_column("lookahead")

    def _absent(self) -> dict[str, NDArray[Any]]:
        return {name: np.empty((0, *self._row_shape(name)), _DTYPES[name]) for name in Block._fields}

    def _row_shape(self, name: str) -> tuple[int, ...]:
        return self.meta.shapes.get(name, ())

    def _read_group(self, group: int, columns: list[str]) -> dict[str, NDArray[Any]]:
        with parsing(self.path, f"a whole trace: row group {group} is damaged", TraceError):
            table = self._file.read_row_group(group, columns=columns)
            arrays = {name: self._to_numpy(name, table.column(name)) for name in columns}
        if self._selected is None:
            return arrays
        return {name: array[self._selected[self._rows(group)]] for name, array in arrays.items()}

    def _rows(self, group: int) -> slice:
        """The file's rows in a row group."""
        return slice(int(self._begins[group]), int(self._begins[group + 1]))

    def _to_numpy(self, name: str, column: pa.ChunkedArray) -> NDArray[Any]:
        values = pa.concat_arrays(column.chunks) if column.num_chunks > 1 else column.chunk(0)
        if name == "source":
            return self._source_codes(values)
        flat = values.flatten() if name in _LISTS else values
        return _numbers(flat).reshape(-1, *self._row_shape(name))

    def _source_codes(self, values: pa.DictionaryArray) -> NDArray[np.int16]:
        names = values.dictionary.to_pylist()
        unknown = [name for name in names if name not in self.meta.sources]
        if unknown:
            raise TraceError(f"{self.path}: source: {unknown[0]!r} is not among the metadata's sources")
        codes = np.array([self.meta.sources.index(name) for name in names], np.int16)
        picked: NDArray[np.int16] = codes[_numbers(values.indices)]
        return picked

    def _read_column(self, name: str) -> NDArray[Any]:
        with parsing(self.path, "a whole trace", TraceError):
            out = np.empty((self.num_tokens, *self._row_shape(name)), _DTYPES[name])
            end = 0
            for group in self._groups:
                part = self._read_group(group, [name])[name]
                start, end = end, end + len(part)
                out[start:end] = part
        out.flags.writeable = False
        return out


def _numbers(values: pa.Array) -> NDArray[Any]:
    """A view of the values, for which `to_numpy` would import pandas; raises ValueError for missing ones."""
    if values.null_count:
        raise ValueError(f"{values.null_count} values are missing")
    kind = np.dtype(values.type.to_pandas_dtype())
    data = values.buffers()[1] if len(values) else b""
    return np.frombuffer(data, kind)[values.offset : values.offset + len(values)]


class TraceWriter:
    """Writer of a trace file, used as a context manager: the file appears when the `with` block ends without an error.

    Equal blocks and metadata give equal bytes.
    """

    def __init__(self, path: str | Path, meta: TraceMeta) -> None:
        self.path = Path(path)
        self.meta = meta
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            temporary = exits.enter_context(replacing(self.path))
            self._writer = exits.enter_context(_parquet_writer(temporary, arrow_schema(self.meta)))
            self._exits = exits.pop_all()
        return self

    def write(self, block: Block) -> None:
        """Append a block as one row group, or as several of ROW_GROUP rows; an empty block writes nothing."""
        for name, shape in self.meta.shapes.items():
            actual = getattr(block, name).shape
            if actual[1:] != shape:
                raise TraceError(f"{self.path}: {name} has shape {list(actual)}: [n, *{list(shape)}] expected")
        if len(block.sequence):
            self._writer.write_batch(to_arrow(block, self.meta), row_group_size=ROW_GROUP)

    def __exit__(self, *exception: Any) -> None:
        self._exits.__exit__(*exception)


def write_trace(path: str | Path, meta: TraceMeta, blocks: Iterable[Block]) -> None:
    """Write a trace; no file is left behind if `blocks` raises."""
    with TraceWriter(path, meta) as writer:
        for block in blocks:
            writer.write(block)


def _parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=["source"],
        column_encoding=_ENCODING,
        data_page_size=8 << 20,
        write_page_checksum=True,
    )


def _open_checked(path: Path) -> tuple[pq.ParquetFile, TraceMeta]:
    if path.is_dir():
        raise InputError(f"{path}: is a directory: a trace file or a bundled name expected")
    require_regular(path, "a trace")
    with parsing(path, "a whole Parquet file", TraceError):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        metadata = file.schema_arrow.metadata or {}
    if METADATA_KEY not in metadata:
        raise TraceError(
            f"{path}: metadata {METADATA_KEY.decode()!r} missing: not a trace (see `specmoe traces import`)"
        )
    try:
        meta = TraceMeta.from_json(metadata[METADATA_KEY])
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
    with parsing(path, "a trace", TraceError):
        _check_columns(path, file.schema_arrow, arrow_schema(meta))
    return file, meta


def _check_columns(path: Path, actual: pa.Schema, expected: pa.Schema) -> None:
    for field in expected:
        index = actual.get_field_index(field.name)
        if index < 0:
            raise TraceError(f"{path}: column {field.name} missing: {field.type} expected")
        other = actual.field(index)
        if other.type != field.type or other.nullable:
            nulls = " with nulls" if other.nullable else ""
            raise TraceError(f"{path}: column {field.name} is {other.type}{nulls}: {field.type} without nulls expected")


def train_beside(trace: str) -> str | None:
    """Name of the train split of a bundled trace; None for a file, whose train split is unknown."""
    parts = trace.split("/")
    return "/".join([*parts[:-1], "train"]) if len(parts) == 3 and not Path(trace).exists() else None


def domains_in(text: str) -> tuple[str, ...]:
    """Text domains of `fiction,legal`, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def learnt_domains(source: Sequence[str], train_source: Sequence[str]) -> Sequence[str]:
    """Text domains of the train split (none: all of them) that is learnt from when those of `source` run.

    By default the same; `train_source` names others, or is `ALL_DOMAINS`.
    """
    return () if tuple(train_source) == ALL_DOMAINS else train_source or source


def open_train(name: str, meta: TraceMeta, domains: Sequence[str] = ()) -> Trace:
    """Open a train split, or some text domains of it, for a trace with this metadata.

    Raises InputError if phase or model size differ, and for a domain that it does not have.
    """
    train = open(name, domains)
    for what in ("phase", "num_layers", "num_experts", "top_k"):
        if getattr(train.meta, what) != getattr(meta, what):
            raise InputError(f"{name}: {what} {getattr(train.meta, what)}: {getattr(meta, what)} expected")
    return train
