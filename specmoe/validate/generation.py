"""What `specmoe generate` does: a text with experts offloaded, beside the resident model's if that is asked for."""

from time import perf_counter
from typing import Any, NamedTuple

import torch

from specmoe.sim.decide.policy import policy as policy_named
from specmoe.sim.decide.table import DecisionTable
from specmoe.traces.collect_model import Checkpoint, load_checkpoint, pick_device
from specmoe.validate.live import Generated, generate_offloaded, generate_resident


class Comparison(NamedTuple):
    """What `specmoe generate` prints; the verdict is empty where nothing is compared."""

    made: Generated
    rows: list[dict[str, Any]]
    verdict: str = ""
    differs: bool = False


def generated(name: str, prompt: str, tokens: int, policy: str, slots: int, device: str, compare: bool) -> Comparison:
    """Load a model into host memory and generate with its experts offloaded; with `compare`, also resident ones."""
    target, chosen = pick_device(device), policy_named(policy)
    checkpoint = _loaded(name, "cpu", target)
    begin = perf_counter()
    made = generate_offloaded(checkpoint, prompt, tokens, chosen, slots, str(target))
    rows = [_row(policy, len(made.ids), perf_counter() - begin, list(made.tables.values()))]
    if not compare:
        return Comparison(made, rows)
    checkpoint = _loaded(name, str(target), target)
    begin = perf_counter()
    ids = generate_resident(checkpoint, prompt, tokens)
    rows.append(_row("all resident", len(ids), perf_counter() - begin, []))
    return Comparison(made, rows, verdict_of(made.ids, ids), made.ids != ids)


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


def _row(name: str, tokens: int, seconds: float, tables: list[DecisionTable]) -> dict[str, Any]:
    uses, hits = sum(len(table.uses.key) for table in tables), sum(table.hits for table in tables)
    return {
        "policy": name,
        "tokens/s": f"{tokens / seconds:.1f}",
        "hits": f"{hits}/{uses}" if tables else "",
        "demand loads": str(sum(table.demand_loads for table in tables)) if tables else "",
        "prefetches": str(sum(table.prefetch_loads for table in tables)) if tables else "",
    }
