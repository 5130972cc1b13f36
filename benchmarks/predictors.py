"""How long each predictor takes for a (step, layer): `python -m benchmarks.predictors`, one thread.

With `--write`, what runs here is recorded in `running_time.toml`, with which simulations charge it; what does not (a
predictor without its checkpoint, a device that is not there) stays as it is recorded. `--device cuda` measures the
learned ones on the GPU, and names it.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import specmoe.traces
from specmoe.errors import SpecmoeError
from specmoe.files import replacing
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.predictors import (
    FREE,
    MOST_TOKENS,
    ON_THE_DEVICE,
    PREDICTORS,
    RUNNING_TIMES,
    Device,
    RunningTime,
    make_predictor,
    measured_time,
    read_times,
)
from specmoe.traces.store import Trace, open_train, train_beside
from specmoe.traces.workload import build

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # read when numpy loads
TRACE = "switch-mini-128/decode/test"
STEPS = 300
BATCHES = (1, MOST_TOKENS)
Key = tuple[str, Device]


def main() -> None:
    """Measure what can be, print it, and record it if told."""
    if not ONE_THREAD.items() <= os.environ.items():
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.predictors", *sys.argv[1:]], os.environ | ONE_THREAD
        )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="*", default=None, help="predictors by name")
    args = parser.parse_args()
    names = [name for name in args.only or PREDICTORS if name not in (*FREE, *ON_THE_DEVICE)]
    if args.device == "cuda":
        names = [name for name in names if name.startswith("learned-")]
    known = read_times(RUNNING_TIMES) if RUNNING_TIMES.exists() else {}
    for key, time in measured(names, args.device).items():
        known[key] = time
    if args.write:
        with replacing(RUNNING_TIMES) as fresh:
            fresh.write_text(toml_of(known))


def measured(names: list[str], device: Device) -> dict[Key, RunningTime]:
    """Those that can run here, printed as they come."""
    trace = specmoe.traces.open(TRACE)
    train = routed(open_train(str(train_beside(TRACE)), trace.meta), 1, None)
    one, many = (routed(trace, batch, STEPS) for batch in BATCHES)
    found: dict[Key, RunningTime] = {}
    for name in names:
        try:
            predictor = make_predictor(name, {"device": device} if name.startswith("learned-") else {})
            predictor.fit(train)
            time = measured_time(predictor, one, many)
        except SpecmoeError as error:
            sys.stdout.write(f"{name:<22} not measured: {error}\n")
            continue
        sys.stdout.write(f"{name:<22} {time.fixed_ns:>12,} ns and {time.per_token_ns:>9,} ns a token, {device}\n")
        found[name, device] = time._replace(ref=f"measured: {reference(name, device)}")
    return found


def routed(trace: Trace, batch: int, steps: int | None) -> Routed:
    """A trace's first steps at a batch size."""
    block = trace.read()
    return Routed(build(block, trace.meta, batch, steps), block)


def reference(name: str, device: Device) -> str:
    """What was measured, on what, when."""
    kind = "torch" if name.startswith("learned-") else "numpy reference"
    day = datetime.now(UTC).date().isoformat()
    if device == "cuda":
        import torch

        return f"{kind} implementation, {torch.cuda.get_device_name()}, {day}"
    return f"{kind} implementation, measured on {cpu_model()}, 1 thread, {day}"


def cpu_model() -> str:
    """Of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unknown CPU")


def toml_of(times: dict[Key, RunningTime]) -> str:
    """The file that `predictors.read_times` reads."""
    parts = [HEADER]
    for (name, device), time in sorted(times.items()):
        title = f"{name}.{device}" if name.startswith("learned-") else name
        source, _, ref = time.ref.partition(": ")
        rows = {"fixed": time.fixed_ns, "per_token": time.per_token_ns}
        values = [f'{k} = {{value = {v}, unit = "ns", source = "{source}", ref = "{ref}"}}' for k, v in rows.items()]
        parts.append("\n".join([f"[{title}]", *values]) + "\n")
    return "\n".join(parts)


HEADER = """# Time that a predictor takes for one (step, layer), one layer ahead: fixed, and for each token.
# Written by `python -m benchmarks.predictors --write`; learned predictors have a table for each device.
"""

if __name__ == "__main__":
    main()
