"""How fast, and in how much memory, is a long trace read?

    python -m benchmarks.traces [--tokens 10000000]

Writes a trace as wide as switch-base-128's (6 layers, 8 candidates, 128 experts drawn from a Zipf law), then streams
all its columns in a fresh process that may use one core. Targets: 50 MB of Parquet a second, 2 GiB at most.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specmoe.traces import Block, TraceMeta, open, write_trace  # noqa: A004 (the documented name)
from specmoe.traces.schema import ROW_GROUP

LENGTH = 512  # tokens a sequence
META = TraceMeta(
    phase="decode",
    kind="synthetic",
    origin="synthetic",
    model="benchmark",
    num_experts=128,
    num_layers=6,
    top_k=1,
    candidates=8,
    sources=("benchmark",),
    corpus="none",
)


def candidate_pool(rng: np.random.Generator) -> NDArray[np.int16]:
    """Zipf-distributed distinct experts [pool, L, M], about as even (6.2 of 7 bits) as a trained Switch's.

    As many as a row group has tokens, so that zstd finds hardly any repetition.
    """
    popularity = np.log(1 / np.arange(1, META.num_experts + 1) ** 0.6)
    scores = popularity + rng.gumbel(size=(ROW_GROUP, META.num_layers, META.num_experts))
    return np.argsort(-scores, axis=-1)[..., : META.candidates].astype(np.int16)


def blocks(tokens: int) -> Iterator[Block]:
    """A trace of `tokens` tokens, row group after row group."""
    rng = np.random.default_rng(0)
    pool, layers = candidate_pool(rng), np.arange(META.num_layers)
    for start in range(0, tokens, ROW_GROUP):
        rows = np.arange(start, min(start + ROW_GROUP, tokens))
        n = len(rows)
        experts, lookahead = (pool[rng.integers(len(pool), size=(n, META.num_layers)), layers] for _ in range(2))
        lookahead[:, -1] = -1
        probs = np.sort(rng.random(experts.shape, dtype=np.float32) ** 8, axis=-1)[..., ::-1]
        yield Block(
            sequence=(rows // LENGTH).astype(np.int32),
            position=(rows % LENGTH).astype(np.int32),
            source=np.zeros(n, np.int16),
            token=np.minimum(rng.zipf(1.3, n), 8191).astype(np.int32),
            experts=experts,
            probs=probs.astype(np.float16),
            lookahead=lookahead[:, :, np.newaxis],
        )


def read(path: Path) -> dict[str, float]:
    """Stream the whole trace on one core; figures of this process."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    start = time.perf_counter()
    tokens = sum(len(block.experts) for block in open(path).blocks())
    seconds = time.perf_counter() - start
    return {
        "tokens": tokens,
        "file_mb": path.stat().st_size / 1e6,
        "read_s": seconds,
        "tokens_per_s": tokens / seconds,
        "parquet_mb_per_s": path.stat().st_size / 1e6 / seconds,
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def write(path: Path, tokens: int) -> dict[str, float]:
    """Make and write the trace; figures of this process."""
    start = time.perf_counter()
    write_trace(path, META, blocks(tokens))
    return {"make_and_write_s": time.perf_counter() - start}


def run_stage(*arguments: str) -> dict[str, float]:
    """Figures of a stage in a process of its own, so that its peak memory is its own."""
    child = [sys.executable, "-m", "benchmarks.traces", *arguments]
    figures: dict[str, float] = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    return figures


def main() -> None:
    """Write in one process, read in another, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write or args.read:
        sys.stdout.write(json.dumps(write(args.write, args.tokens) if args.write else read(args.read)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/trace.parquet"
        figures = run_stage("--write", path, "--tokens", str(args.tokens)) | run_stage("--read", path)
    for name, value in figures.items():
        sys.stdout.write(f"{name:>20} {value:>14,.2f}\n")
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
