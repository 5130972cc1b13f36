"""Importer of routed experts that vLLM returns (`enable_return_routed_experts`): integers [tokens, layers, k].

A .npy file is one sequence; each array of a .npz file is one sequence, in the file's order. Positions start at 0 in
each array. There are no probabilities and no tokens. Source: docs.vllm.ai, "Routed Experts Return".
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import parsing
from specmoe.traces.importers.common import Imported, Options


def read(path: Path, options: Options) -> Imported:
    """Read a .npy or .npz file; `options` must give the number of experts."""
    arrays = _load(path)
    first, *others = arrays
    for name, array in arrays.items():
        if array.ndim != 3 or array.dtype.kind not in "iu" or 0 in array.shape:
            raise InputError(
                f"{path}: {name} is {array.dtype}{list(array.shape)}: integers [tokens, layers, k] expected"
            )
    for name in others:
        if arrays[name].shape[1:] != arrays[first].shape[1:]:
            actual, expected = list(arrays[name].shape), list(arrays[first].shape[1:])
            raise InputError(
                f"{path}: {name} is {actual}: [tokens, {expected[0]}, {expected[1]}] expected, as in {first}"
            )
    lengths = [len(array) for array in arrays.values()]
    return Imported(
        num_experts=options.experts_of(path),
        sequence=np.repeat(np.arange(len(arrays)), lengths),
        position=np.concatenate([np.arange(length) for length in lengths]),
        experts=np.concatenate(list(arrays.values())),
        corpus=path.name,
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with parsing(path, "a whole .npy or .npz file of plain integers"):
        loaded = np.load(path, allow_pickle=False)
        arrays = {"array": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    if not arrays:
        raise InputError(f"{path}: holds no array: one array per sequence expected")
    return arrays
