"""Summaries of runs in the terminal: a table of policies, the bounds, and what to know before believing it."""

from collections import Counter
from typing import Any

from specmoe.commands import console

NAMED = 6  # values that are named; of more, the number
GIB = 1 << 30  # bytes


def lead_told(summaries: list[dict[str, Any]]) -> str:
    """Who is fastest or level; nothing of fewer than two policies that a runtime could follow."""
    from specmoe.uncertainty import real_lead, sentence

    lead = real_lead(summaries)
    return "" if lead is None or not (lead.level or lead.behind) else sentence(lead)


def show(summaries: list[dict[str, Any]]) -> None:
    """Whether everything fits, a table, the bounds, and what to know before believing it."""
    from specmoe.summary import BOUNDS
    from specmoe.uncertainty import fits, routing_of

    first = summaries[0]
    if everything := fits(first):
        console.say(everything, bold=True)
    console.table(table_rows(summaries))
    known = [name for name in BOUNDS if first[name] is not None]
    limits = ", ".join(f"{name.removesuffix('_ns')} {first[name] / 1e6:.3f}" for name in known) or "not computed"
    console.note(
        "used: share of prefetched experts that were used (precision); foreseen: share of needed loads that were "
        "prefetched (recall); wasted: copied but never used; stall: ms per step that the GPU waits for loads"
    )
    console.say(f"bounds, ms per step: {limits}")
    console.note(
        f"{first['trace']} ({routing_of(first)}), {first['steps']} steps of batch {first['batch']}{_warm_up(first)}; "
        f"{first['shape']} in {first['format']}, {min(row['slots'] for row in summaries)} slots; {first['profile']}"
    )
    console.note(budget_words(first))
    console.note(f"style: {_styles(summaries)}; dense weights in {first['dense_format']}")
    for text in _bands(summaries):
        console.note(f"expected error: {text}")
    show_spread(summaries)
    console.note(f"evidence: {_evidence(summaries)}; semantics: {first['semantics']}; assumed: {_assumed(summaries)}")
    for warning in sorted({warning for row in summaries for warning in row["warnings"]}):
        console.note(f"warning: {warning}", fg="yellow")


def show_spread(rows: list[dict[str, Any]]) -> None:
    """What is unknown of the machine: who is fastest on how many, how far the fastest varies, what to measure first."""
    from specmoe.uncertainty import fastest_on, first_to_measure, is_drawn, rates, two_errors

    real = [row for row in rows if is_drawn(row) and not row["yardstick"]]
    if not real:
        return
    best = min(real, key=lambda row: float(row["latency_mean_ns"]))
    console.note(f"unknown of the machine: {fastest_on(rows)}; {best['policy']}: {rates(best)}")
    for text in (two_errors(best), first_to_measure(best)):
        if text:
            console.note(text)


def budget_words(row: dict[str, Any]) -> str:
    """The lines of a row's budget, in GiB."""
    parts = {
        "dense": "weights that stay",
        "kv": "KV cache",
        "assumed_reserve": "reserve (assumed)",
        "slot": "expert slots",
        "free": "unused",
    }
    sizes = ", ".join(f"{row[f'{name}_bytes'] / GIB:.2f} {what}" for name, what in parts.items())
    return f"VRAM: {row['vram_bytes'] / GIB:.2f} GiB: {sizes}"


def _evidence(summaries: list[dict[str, Any]]) -> str:
    """The evidence of policies that load every miss, and that of those that have the CPU compute experts."""
    kinds = {bool(row["cpu_uses"]): row["evidence"] for row in reversed(summaries)}
    return "; with experts on the CPU: ".join(kinds[on_cpu] for on_cpu in sorted(kinds))


def _warm_up(row: dict[str, Any]) -> str:
    """The steps that figures leave out, in words."""
    if not row["warm_up_steps"]:
        return ""
    return f" after {row['warm_up_steps']} of warm-up"


def _styles(summaries: list[dict[str, Any]]) -> str:
    """The style of most policies, and who has another one."""
    usual = Counter(row["style"] for row in summaries).most_common(1)[0][0]
    others = [f"{row['policy']}: {row['style']}" for row in summaries if row["style"] != usual]
    return ", ".join([usual, *others])


def _bands(summaries: list[dict[str, Any]]) -> list[str]:
    """The expected error of most policies, and those of the others with their names."""
    from specmoe.uncertainty import band

    policies: dict[str, list[str]] = {}
    for row in summaries:
        if text := band(row):
            policies.setdefault(text, []).append(row["policy"])
    first, *others = sorted(policies, key=lambda text: -len(policies[text])) or [""]
    return [text for text in (first, *(f"{', '.join(policies[text])}: {text}" for text in others)) if text]


def table_rows(summaries: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Cells of the table by column, the fastest policy first; those of the CPU where any policy uses it."""
    from specmoe.uncertainty import spread_cells

    on_cpu, drawn = any(row["cpu_uses"] for row in summaries), any(row["draws"] for row in summaries)
    return [
        {
            "policy": row["policy"],
            "step ms": f"{row['latency_mean_ns'] / 1e6:.3f}",
            "tokens/s": f"{row['tokens_per_second']:.1f}",
            **(spread_cells(row) if drawn else {}),
            "x oracle": f"{row['latency_mean_ns'] / row['oracle_ns']:.2f}" if row["oracle_ns"] else "-",
            "hits": f"{100 * row['hit_rate']:.0f} %",
            "used": _percent(row["precision"]),
            "foreseen": _percent(row["recall"]),
            "wasted GB": f"{row['bytes_wasted'] / 1e9:.1f}",
            "stall": f"{row['stall_ns'] / row['steps'] / 1e6:.3f}",
            **(_cpu_cells(row) if on_cpu else {}),
            **(_session_cells(row) if row["first_token_ns"] or row["decode_tokens_per_second"] else {}),
        }
        for row in sorted(summaries, key=lambda row: float(row["latency_mean_ns"]))
    ]


def _cpu_cells(row: dict[str, Any]) -> dict[str, str]:
    """Share of experts that the CPU computes, and ms per step that it computes and that the GPU waits for it."""
    times = {"CPU ms": row["cpu_ns"], "CPU wait": row["cpu_stall_ns"]}
    shown = {name: f"{time / row['steps'] / 1e6:.3f}" for name, time in times.items()}
    return {"on CPU": _percent(row["cpu_share"]), **shown}


def _session_cells(row: dict[str, Any]) -> dict[str, str]:
    """Time to the first token, and tokens/s of decoding."""
    first, rate = row["first_token_ns"], row["decode_tokens_per_second"]
    cells = {"first token ms": None if first is None else f"{first / 1e6:.1f}"}
    cells["decode tok/s"] = None if rate is None else f"{rate:.1f}"
    return {name: cell or "-" for name, cell in cells.items()}


def _assumed(summaries: list[dict[str, Any]]) -> str:
    """What somebody only assumed: by name where it is little."""
    names = max((row["assumed"] for row in summaries), key=len)
    return ", ".join(names) or "nothing" if len(names) <= NAMED else f"{len(names)} values"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"
