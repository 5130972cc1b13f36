"""What `specmoe generate` does: texts with experts offloaded, beside the resident model's if that is asked for."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from specmoe.errors import InputError
from specmoe.hwprofiles.shape import Format
from specmoe.sim.decide.policy import policy as policy_named
from specmoe.traces.collect_model import Checkpoint, load_checkpoint, pick_device
from specmoe.validate.live import Ask, Generated, Offloaded, write


class Comparison(NamedTuple):
    """What `specmoe generate` prints: the first policy's text, and a row a policy; no verdict without a comparison."""

    made: Generated
    rows: list[dict[str, Any]]
    verdict: str = ""
    differs: bool = False


def generated(
    name: str, prompt: str, tokens: int, policies: Sequence[str], slots: int, device: str, compare: bool
) -> Comparison:
    """Load a model into host memory and generate with its experts offloaded; with `compare`, also resident ones.

    Raises InputError for no token, no slot, no policy, and a policy that cannot be asked while a model runs.
    """
    for what, number in (("--max-new-tokens", tokens), ("--slots", slots), ("--policy", len(policies))):
        if number < 1:
            raise InputError(f"{what}: at least one expected")
    target, chosen = pick_device(device), [policy_named(policy) for policy in policies]
    held: Format = "fp16" if target.type == "cuda" else "fp32"
    ask, model = Ask(prompt, tokens), Offloaded(_loaded(name, "cpu", target), str(target), held)
    made = [model.generate(ask, policy, slots) for policy in chosen]
    rows = [_row(policy, one) for policy, one in zip(policies, made, strict=True)]
    if not compare:
        return Comparison(made[0], rows)
    del model
    resident = write(_loaded(name, str(target), target), ask)
    rows.append({**dict.fromkeys(rows[0], ""), "policy": "all resident", **_speed(len(resident.ids), resident.seconds)})
    rows[-1] |= _memory(resident.peak_bytes)
    different = [(policy, one.ids) for policy, one in zip(policies, made, strict=True) if one.ids != resident.ids]
    if not different:
        return Comparison(made[0], rows, verdict_of(resident.ids, resident.ids))
    policy, ids = different[0]
    return Comparison(made[0], rows, f"{policy}: {verdict_of(ids, resident.ids)}", differs=True)


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


def _row(name: str, made: Generated) -> dict[str, Any]:
    tables = made.tables.values()
    uses, hits = sum(len(table.uses.key) for table in tables), sum(table.hits for table in tables)
    return {
        "policy": name,
        **_speed(len(made.ids), made.seconds),
        "hits": f"{hits}/{uses}",
        "demand loads": str(sum(table.demand_loads for table in tables)),
        "prefetches": str(sum(table.prefetch_loads for table in tables)),
        **_memory(made.peak_bytes),
    }


def _speed(tokens: int, seconds: float) -> dict[str, str]:
    return {"tokens/s": f"{tokens / seconds:.1f}"}


def _memory(peak_bytes: int) -> dict[str, str]:
    """Most memory that the device's allocator gave out; nothing on a CPU."""
    return {"device memory, MiB": f"{peak_bytes / 2**20:.1f}"} if peak_bytes else {}
