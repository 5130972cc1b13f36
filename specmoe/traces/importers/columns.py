"""Checked conversion of the columns of a foreign table to numpy arrays; errors name the wrong row."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specmoe.errors import InputError

_SEPARATORS = r"[\[\](),;\s]+"
_NUMBERS = r"^[-+0-9.eE]+( [-+0-9.eE]+)*$"
_INTEGER = r"^[-+]?[0-9]+$"


def required(path: Path, table: pa.Table, *names: str) -> None:
    """Raise InputError for the first column that is missing or has an empty cell."""
    for name in names:
        if name not in table.column_names:
            raise InputError(f"{path}: column {name} missing; found: {', '.join(table.column_names)}")
        empty = pc.is_null(table[name])
        if pc.any(empty).as_py():
            fail(path, empty, name, "a value expected")


def fail(path: Path, broken: Any, name: str, expected: str) -> NoReturn:
    """Raise InputError for the first row that the mask [rows] marks."""
    raise InputError(f"{path}: row {int(np.argmax(np.asarray(broken)))}: {name}: {expected}")


def integers(path: Path, table: pa.Table, name: str, least: int = 0) -> NDArray[np.int64]:
    """Column of whole numbers from `least` to 2**31 - 1, [rows]; raises InputError with the first wrong row."""
    column = table[name]
    if _is_text(column.type):
        wrong = pc.invert(pc.match_substring_regex(column, _INTEGER))
        if pc.any(wrong).as_py():
            fail(path, wrong, name, "an integer expected")
    try:
        values: NDArray[np.int64] = pc.cast(column, pa.int64()).to_numpy()
    except pa.ArrowException as error:
        raise InputError(f"{path}: {name}: integers expected: {error}") from None
    outside = (values < least) | (values >= 2**31)
    if outside.any():
        fail(path, outside, name, f"{values[outside][0]}: an integer of {least} or more, below 2**31, expected")
    return values


def codes(table: pa.Table, name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Column of names as codes [rows] into its distinct values, ordered by first appearance."""
    encoded = pc.cast(table[name], pa.string()).combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), tuple(encoded.dictionary.to_pylist())


def lists(path: Path, table: pa.Table, name: str, kind: pa.DataType) -> tuple[NDArray[Any], int]:
    """Column of lists of equal length as an array [rows, k], and k; raises InputError with the first wrong row.

    A list may be an Arrow list, text, e.g. "3 5", "3;5" or "[3, 5]", or a single number (k = 1).
    """
    column = table[name].combine_chunks()
    if _is_text(column.type):
        column = _split(path, column, name)
    values, lengths = (column, np.ones(len(column), int)) if _is_number(column.type) else _flatten(column)
    _require_equal_lengths(path, name, lengths)
    if values.null_count:
        fail(path, np.asarray(values.is_null()).reshape(len(column), -1).any(axis=1), name, "numbers expected")
    try:
        flat = pc.cast(values, kind).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise InputError(f"{path}: {name}: lists of {kind} expected: {error}") from None
    return flat.reshape(len(column), -1), int(lengths[0])


def _split(path: Path, column: pa.Array, name: str) -> pa.Array:
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(column, _SEPARATORS, " "))
    wrong = pc.invert(pc.match_substring_regex(spaced, _NUMBERS))
    if pc.any(wrong).as_py():
        fail(path, wrong, name, "numbers separated by spaces, semicolons or commas expected")
    return pc.split_pattern(spaced, " ")


def _flatten(column: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    return column.flatten(), pc.list_value_length(column).to_numpy().astype(np.int64)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _require_equal_lengths(path: Path, name: str, lengths: NDArray[np.int64]) -> None:
    if not len(lengths) or not lengths[0]:
        raise InputError(f"{path}: {name}: at least one row with at least one number expected")
    ragged = lengths != lengths[0]
    if ragged.any():
        fail(
            path,
            ragged,
            name,
            f"{lengths[ragged][0]} numbers, but {lengths[0]} in row 0: the same number in every row expected",
        )
