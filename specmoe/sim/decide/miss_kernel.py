"""The director's kernel: what each demanded expert gets that is in no slot, compiled by numba.

Read it beside `misses.py`. Import this module only where it is used, since it needs numba.
"""

from typing import Any, NamedTuple

from numba import njit

from specmoe.sim.decide.miss import COMPUTE, COMPUTE_AND_LOAD, LOAD

ALL, BELOW, SPLIT, ADMIT_AFTER, GREEDY = range(5)
COPY, CPU, GPU, CPU_TOKEN = range(4)  # of the numbers of GREEDY


class Rule(NamedTuple):
    """A miss rule: `numbers` of ALL are the choice, of BELOW the tokens, of ADMIT_AFTER the misses.

    `shares`: slots serve a part of some demand only.
    """

    code: int
    shares: bool
    in_ram: Any  # [layers], whether the CPU computes all experts of a layer
    numbers: Any
    loads: Any  # [misses], how many of them are loaded (SPLIT)
    counts: Any  # [keys], misses since the last load (ADMIT_AFTER)


@njit(inline="always")
def choose(rule: Any, layer: int, keys: Any, tokens: Any, slots: Any, choices: Any, order: Any) -> None:
    """Fill in the choice of each demanded expert, LOAD for those in slots; `slots` are those of keys, `order` room."""
    misses = 0
    for place in range(len(keys)):
        choices[place] = COMPUTE if rule.in_ram[layer] else LOAD
        if slots[keys[place]] < 0:
            order[misses] = place
            misses += 1
    if rule.in_ram[layer] or not misses:
        return
    if rule.code == SPLIT or rule.code == GREEDY:
        _sort_falling(order[:misses], tokens)
    if rule.code == SPLIT:
        for number in range(rule.loads[misses], misses):
            choices[order[number]] = COMPUTE
    elif rule.code == GREEDY:
        _from_both_ends(rule.numbers, len(keys) - misses, order[:misses], tokens, choices)
    else:
        for place in order[:misses]:
            choices[place] = _choice(rule, keys[place], tokens[place])


@njit(inline="always")
def _choice(rule: Any, key: int, tokens: int) -> Any:
    if rule.code == ALL:
        return int(rule.numbers[0])
    if rule.code == BELOW:
        return COMPUTE if tokens < rule.numbers[0] else LOAD
    rule.counts[key] += 1
    if rule.counts[key] < rule.numbers[0]:
        return COMPUTE
    rule.counts[key] = 0
    return COMPUTE_AND_LOAD


@njit(inline="always")
def _sort_falling(order: Any, tokens: Any) -> None:
    """Sort places by tokens, the most first; of equals the first place."""
    for number in range(1, len(order)):
        place, to = order[number], number
        while to and tokens[order[to - 1]] < tokens[place]:
            order[to] = order[to - 1]
            to -= 1
        order[to] = place


@njit(inline="always")
def _from_both_ends(times: Any, hits: int, order: Any, tokens: Any, choices: Any) -> None:
    first, last = 0, len(order) - 1
    link, gpu, cpu = 0.0, times[GPU] * hits, 0.0
    while first <= last:
        landed = link + times[COPY]
        on_gpu = max(gpu, landed) + times[GPU]
        on_cpu = cpu + max(times[CPU], times[CPU_TOKEN] * tokens[order[last]])
        if on_gpu <= on_cpu:
            link, gpu, first = landed, on_gpu, first + 1
        else:
            choices[order[last]] = COMPUTE
            cpu, last = on_cpu, last - 1
