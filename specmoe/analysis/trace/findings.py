"""What an analysis says, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log2
from typing import Any

Facts = dict[str, Any]
EVEN = 0.95  # share of the greatest possible entropy from which use is called even
TOLD = 0.1  # hit rate of an LRU, from which slots are worth a sentence
WINDOW = 8  # tokens, in the sentence on working sets


def findings(facts: Facts) -> list[str]:
    """Sentences from the other facts of `facts.facts_of`; one alone for an empty trace."""
    if not facts["uses"]:
        return ["The trace holds no use of any expert."]
    return [sentence for write in SENTENCES for sentence in write(facts)]


def _use(facts: Facts) -> Iterator[str]:
    experts = facts["trace"]["num_experts"]
    layers = [layer for layer in facts["layers"] if layer["total"]]
    bits, most = [layer["entropy_bits"] for layer in layers], log2(experts)
    even = min(bits) >= EVEN * most
    verdict = "use is even and popularity tells little" if even else "use is uneven and popularity tells"
    domains = facts["domains"]
    domain = f"; the text's domain tells {max(0.0, domains['bits']):.2f} bits" if domains["sources"] > 1 else ""
    active, top = ([layer[name] for layer in layers] for name in ("active", "top_share"))
    yield (
        f"A layer uses {_span(active)} of {experts} experts, with {_span(bits, '.2f')} of {most:.2f} bits and "
        f"{_span([100 * share for share in top], '.1f')} % of uses for its favourite: {verdict}{domain}."
    )


def _slots(facts: Facts) -> Iterator[str]:
    for study in facts["reuse"]:
        nothing = study["lru_hits_nothing_up_to"]
        part = f", over the first {study['tokens']:,} tokens," if study["tokens"] < facts["tokens"] else ""
        begin = f"At batch {study['batch']}{part} an LRU over all layers hits "
        if nothing is None:
            yield f"{begin}nothing at all: no expert is wanted twice."
            continue
        rate = next((rate for rate in study["hit_rates"] if rate["lru"] >= TOLD), study["hit_rates"][-1])
        low = f"nothing up to {nothing} slots; " if nothing >= study["largest_demand"] else ""
        yield (
            f"{begin}{low}{100 * rate['lru']:.0f} % with {rate['slots']} slots ({100 * rate['share']:.0f} % of the "
            f"experts), where the best possible without prefetching is {100 * rate['belady']:.0f} %."
        )


def _order(facts: Facts) -> Iterator[str]:
    known = [layer for layer in facts["layers"] if layer["persistence"] is not None]
    if known:
        again, chance = (_mean([layer[name] for layer in known]) for name in ("persistence", "persistence_by_chance"))
        yield (
            f"Of the experts that a token uses, {100 * again:.1f} % are those of the token before it "
            f"({100 * chance:.1f} % by chance)."
        )


def _surprise(facts: Facts) -> Iterator[str]:
    rows = sorted(facts["predictability"], key=lambda row: row["told"])
    if rows:
        told = [f"{max(0.0, row['told']):.1f} by the {row['context']}" for row in rows]
        bits = max(row["bits"] for row in rows)
        ahead = [layer["lookahead_top1"] for layer in facts["layers"] if layer["lookahead_top1"] is not None]
        found = f"; a router asked one layer early names {100 * _mean(ahead):.0f} % of first choices" if ahead else ""
        yield f"An expert holds {bits:.1f} bits of surprise; told at most: {_listed(told)}{found}."


def _sets(facts: Facts) -> Iterator[str]:
    every = facts["trace"]["num_experts"] * facts["trace"]["num_layers"]
    windows = [row for row in facts["working_set"]["windows"] if row["tokens"] == WINDOW]
    short = f", {WINDOW} tokens in a row {windows[0]['mean']:.0f}" if windows else ""
    share = facts["working_set"]["sequence"] / every
    yield (
        f"A sequence uses {facts['working_set']['sequence']:.0f} of all {every} experts ({100 * share:.0f} %){short}."
    )


def _batches(facts: Facts) -> Iterator[str]:
    rows = facts["deduplication"]
    if len(rows) > 1:
        last = rows[-1]
        saved, by_chance = (100 * (1 - last[name] / last["uses"]) for name in ("demanded", "independent"))
        yield (
            f"Loading each expert once for a batch of {last['batch']} saves {saved:.0f} % of the loads that its tokens "
            f"would need by themselves ({by_chance:.0f} % if they chose independently of each other)."
        )


SENTENCES: tuple[Callable[[Facts], Iterator[str]], ...] = (_use, _slots, _order, _surprise, _sets, _batches)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _span(values: list[float], form: str = "g") -> str:
    ends = sorted({format(min(values), form), format(max(values), form)}, key=float)
    return " to ".join(ends)


def _listed(parts: list[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
