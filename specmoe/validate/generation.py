"""What `specmoe generate` does: texts with experts offloaded, beside the resident model's if that is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import Format
from specmoe.sim.decide.policy import policy as policy_named
from specmoe.sim.event_table import spans
from specmoe.timeline import Span, write_spans
from specmoe.traces.collect_model import Checkpoint, load_checkpoint, pick_device
from specmoe.validate.live import Generated, Offloaded
from specmoe.validate.writing import Ask, write


class Row(NamedTuple):
    """Figures of one generated text; counts of decisions are empty where every expert is resident."""

    policy: str
    text: str
    tokens: int
    seconds: float
    tokens_per_second: float
    uses: int | None = None
    hits: int | None = None
    demand_loads: int | None = None
    prefetches: int | None = None
    peak_bytes: int = 0  # of the device's memory, by its allocator; 0 on a CPU


class Comparison(NamedTuple):
    """What `specmoe generate` prints: the first policy's text, a row a policy; no verdict without a comparison."""

    made: Generated
    rows: list[Row]
    verdict: str = ""
    differs: bool = False


def generated(
    name: str, ask: Ask, policies: Sequence[str], slots: int, device: str, compare: bool, timed: bool = False
) -> Comparison:
    """Load a model into host memory and generate with its experts offloaded; with `compare`, also resident ones.

    `timed` keeps when each thing happened, for `write_timeline`. Raises InputError for no token, no slot, no policy,
    and a policy that cannot be asked while a model runs.
    """
    for what, number in (("--max-new-tokens", ask.tokens), ("--slots", slots), ("--policy", len(policies))):
        if number < 1:
            raise InputError(f"{what}: at least one expected")
    target, chosen = pick_device(device), [policy_named(policy) for policy in policies]
    held: Format = "fp16" if target.type == "cuda" else "fp32"
    model = Offloaded(_loaded(name, "cpu", target), str(target), held)
    made = [model.generate(ask, policy, slots, traced=timed) for policy in chosen]
    rows = [_row(policy, one) for policy, one in zip(policies, made, strict=True)]
    if not compare:
        return Comparison(made[0], rows)
    del model
    checkpoint = _loaded(name, str(target), target)
    resident = write(checkpoint, ask)
    text = checkpoint.tokenizer.decode(resident.ids, skip_special_tokens=True)
    rows.append(Row("all resident", text, *_speed(resident.ids, resident.seconds), peak_bytes=resident.peak_bytes))
    different = [(policy, one.ids) for policy, one in zip(policies, made, strict=True) if one.ids != resident.ids]
    if not different:
        return Comparison(made[0], rows, verdict_of(resident.ids, resident.ids))
    policy, ids = different[0]
    return Comparison(made[0], rows, f"{policy}: {verdict_of(ids, resident.ids)}", differs=True)


def write_timeline(made: Generated, path: Path) -> None:
    """Write when loads, experts and decisions happened, a process a phase, as a Chrome trace."""
    processes: dict[str, list[Span]] = {}
    for phase, run in made.runs.items():
        table = made.tables[phase]
        processes[phase] = spans(table, run.happened(table), table.num_steps * table.num_layers)
    write_spans(path, processes)


def verdict_of(offloaded: list[int], resident: list[int]) -> str:
    """Whether two texts are the same, token for token, and else where they part."""
    if offloaded == resident:
        return f"The texts are the same: {len(resident)} tokens."
    pairs = enumerate(zip(offloaded, resident, strict=False))
    shortest = min(len(offloaded), len(resident))
    place = next((place for place, (one, other) in pairs if one != other), shortest)
    return f"The texts differ from token {place + 1} on."


def _loaded(name: str, device: str, target: torch.device) -> Checkpoint:
    dtype = "float16" if target.type == "cuda" else "float32"
    return load_checkpoint(name, device=device, dtype=dtype, capacity=None, random_init=False, seed=0)


def _row(name: str, made: Generated) -> Row:
    tables = made.tables.values()
    counts = {
        "uses": sum(len(table.uses.key) for table in tables),
        "hits": sum(table.hits for table in tables),
        "demand_loads": sum(table.demand_loads for table in tables),
        "prefetches": sum(table.prefetch_loads for table in tables),
    }
    return Row(name, made.text, *_speed(made.ids, made.seconds), **counts, peak_bytes=made.peak_bytes)


def _speed(ids: list[int], seconds: float) -> tuple[int, float, float]:
    return len(ids), seconds, len(ids) / seconds
