"""Importer of routed experts that vLLM returns (`enable_return_routed_experts`): integers [tokens, layers, k].

A .npy file is one request; so is each array of a .npz file, in the file's order, and each choice of a server's answer
saved as .json, whose `routed_experts` is a .npy file in base64. An array has a row for each token that was run: those
of the prompt, and all that were generated but the last. `options.prompt_tokens` is the length of the prompt, one number
for all requests or one for each; with it, rows before it are `encode` and the others `decode`. vLLM 0.21 returned both
apart: the arrays `prompt_routed_experts` and `routed_experts` of a .npz file, each with the same suffix or none, are
the prompt and the rest of one request. Arrays have all layers of the model, and every id of a dense one is 0: layers
without any other id are left out. There are no probabilities and no tokens.
Sources: docs.vllm.ai, "Routed Experts Return" and "Routed Experts Capture" (latest), "Routed Experts Replay" (0.21).
"""

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import MIB, parsing, read_json
from specmoe.traces.importers.common import Imported, Options

PROMPT, REST = "prompt_routed_experts", "routed_experts"
LARGEST = 2048 * MIB  # of arrays that were compressed


def read(path: Path, options: Options) -> Imported:
    """Read a .npy, .npz or .json file; `options` must give the number of experts."""
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
    routes = np.any([array.any(axis=(0, 2)) for array in arrays.values()], axis=0)
    if not routes.any():
        raise InputError(f"{path}: every id is 0, as in a dense layer: a layer with others expected")
    requests, prompts = _requests(path, arrays, options.prompt_tokens)
    found = _of_phase(path, requests, prompts, options)
    if routes.all():
        return found
    layers = " ".join(map(str, np.flatnonzero(routes)))
    return found._replace(experts=found.experts[:, routes], notes=(f"layers in the file: {layers}",))


def _of_phase(path: Path, requests: list[NDArray[Any]], prompts: list[int] | None, options: Options) -> Imported:
    starts, ends = [0] * len(requests), [len(array) for array in requests]
    if prompts is not None:
        starts, ends = (starts, prompts) if options.phase == "encode" else (prompts, ends)
    lengths = [end - start for start, end in zip(starts, ends, strict=True)]
    if not any(lengths):
        raise InputError(f"{path}: no token of phase {options.phase}: choose the other with --phase")
    return Imported(
        num_experts=options.experts_of(path),
        sequence=np.repeat(np.arange(len(requests)), lengths),
        position=np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)]),
        experts=np.concatenate([array[a:b] for array, a, b in zip(requests, starts, ends, strict=True)]),
        corpus=path.name,
    )


def _requests(
    path: Path, arrays: dict[str, NDArray[Any]], given: tuple[int, ...]
) -> tuple[list[NDArray[Any]], list[int] | None]:
    """Tokens of each request, and the length of each prompt if it is known."""
    apart = {name: arrays[REST + name.removeprefix(PROMPT)] for name in arrays if _is_apart(name, arrays)}
    if apart and not given and 2 * len(apart) == len(arrays):
        whole = [np.concatenate([arrays[name], rest]) for name, rest in apart.items()]
        return whole, [len(arrays[name]) for name in apart]
    requests = list(arrays.values())
    if not given:
        return requests, None
    if len(given) not in (1, len(requests)):
        raise InputError(
            f"{path}: {len(requests)} requests: as many --prompt-tokens expected, or one, not {len(given)}"
        )
    prompts = [given[0]] * len(requests) if len(given) == 1 else list(given)
    for prompt, (name, array) in zip(prompts, arrays.items(), strict=True):
        if not 0 <= prompt <= len(array):
            raise InputError(
                f"{path}: {name} has {len(array)} tokens: --prompt-tokens up to that expected, not {prompt}"
            )
    return requests, prompts


def _is_apart(name: str, arrays: dict[str, NDArray[Any]]) -> bool:
    return name.startswith(PROMPT) and REST + name.removeprefix(PROMPT) in arrays


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".json":
        return _answer(path)
    with parsing(path, "a whole .npy or .npz file of plain integers"):
        if not zipfile.is_zipfile(path):
            return {"array": np.load(path, allow_pickle=False, mmap_mode="r")}
        with zipfile.ZipFile(path) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > LARGEST:
            raise ValueError(f"{size} bytes when unpacked: at most {LARGEST // MIB} MiB expected")
        with np.load(path, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    if not arrays:
        raise InputError(f"{path}: holds no array: one array per sequence expected")
    return arrays


def _answer(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a server's answer, a choice each."""
    answer = read_json(path, "a server's answer")
    with parsing(path, "an answer whose choices have routed_experts, a .npy file in base64"):
        files = [choice["routed_experts"] for choice in answer["choices"]]
        loaded = [np.load(io.BytesIO(base64.b64decode(file, validate=True)), allow_pickle=False) for file in files]
    if not loaded:
        raise InputError(f"{path}: choices is empty: one choice per sequence expected")
    return {f"choice {number}": array for number, array in enumerate(loaded)}
