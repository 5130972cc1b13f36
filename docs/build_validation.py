"""Judge shipped profiles by the replays in validation/ and fill in docs/validation.md: `make figures`. Needs no GPU.

validation/NAME.steps.parquet       what was measured; NAME.json beside it says on what
validation/NAME.measured.toml       the microbenchmarks alone, before anything was calibrated
validation/NAME.toml                the calibrated profile, of a machine whose profile is not shipped

NAME is a shipped profile's, one of `REPLICATIONS` (the whole grid once more, on another machine, after the model was
done), one of `UNMEASURED` (the same without microbenchmarks, so only the shipped profile foretells it) or `EMULATED`
(another machine's link, on that of the first replication).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from specmoe.analysis.figures.fidelity import about_of, headline, plot_errors, plot_parts, plot_prediction
from specmoe.hwprofiles import HardwareProfile, load_profile
from specmoe.validate.calibration import carried
from specmoe.validate.fidelity import overall, ratio_errors
from specmoe.validate.store import load, read_steps, save
from specmoe.validate.validation import circumstances, emulating, plan, rejudged, traces_by_phase
from specmoe.validation_table import CellFidelity, Overall, read_validation

DOCS = Path(__file__).parent
HOME = DOCS.parent / "validation"
PAGE = DOCS / "validation.md"
IMAGES = DOCS / "img"
PROFILES = ("h100-sxm5-80gb", "h200-sxm-141gb")
REPLICATIONS = {"h100-sxm5-80gb-2": "h100-sxm5-80gb", "h200-sxm-141gb-2": "h200-sxm-141gb"}  # and the shipped profile
UNMEASURED = {"h200-sxm-141gb-3": "h200-sxm-141gb"}  # and the shipped profile
EMULATING = "h100-sxm5-80gb-2"
EMULATED, SLOWER = "rtx3090-on-h100-sxm5-80gb", "rtx3090"
GROUPED = (*PROFILES, *REPLICATIONS, *UNMEASURED, EMULATED)
TRACES = ("switch-mini-128/decode/test", "switch-mini-128/encode/test")
PLOTS = {"predicted": plot_prediction, "errors": plot_errors, "parts": plot_parts}
SUMMARY = DOCS / "runs" / "validation" / "summary.json"
ACCURACY = DOCS.parent / "specmoe" / "hwprofiles" / "data" / "accuracy.json"  # the same for `specmoe advise`
RATIOS = ACCURACY.with_name("ratio_error.json")
OWN, ALONE = "calibrated on its `fit` cells", "microbenchmarks alone"
SAID = {OWN: "own", ALONE: "microbenchmarks"}  # there
CALIBRATED = "the profile calibrated on its cells of role `fit`"
SEEN = ", calls of the host as each replay saw them"


def main() -> None:
    """Judge, draw, and fill in the page."""
    rows = [row for name in PROFILES for row in judged(name)]
    rows += [row for name in REPLICATIONS for row in replicated(name)]
    rows += [row for name in UNMEASURED for row in unmeasured(name)]
    rows.append(emulation())
    SUMMARY.write_text(json.dumps(rows, indent=1) + "\n")
    ACCURACY.write_text(json.dumps({"rows": kept(rows)}, indent=1) + "\n")
    write_ratios()
    PAGE.write_text(filled(PAGE.read_text()))


def write_ratios() -> None:
    """Errors of ratios of policies, for the package."""
    RATIOS.write_text(json.dumps({"rows": ratios()}, indent=1) + "\n")


def ratios() -> list[dict[str, Any]]:
    """Errors of ratios of policies, by replay and style, of held-out cells with the calls of their host."""
    rows = []
    for path in (*sorted(HOME.glob("*.json")), *sorted((HOME / "styles").glob("*.json"))):
        cells = [cell.by_its_host for cell in held_out(read_validation(path).cells)]
        for style in dict.fromkeys(cell.cell.style for cell in cells):
            errors = ratio_errors([cell for cell in cells if cell.cell.style == style])
            if errors:
                median, p95 = (float(value) for value in np.percentile(errors, (50, 95)))
                known = {"replay": path.stem, "style": style or "expand/separate", "pairs": len(errors)}
                rows.append(known | {"median": median, "p95": p95, "worst": max(errors)})
    return rows


def judged(name: str) -> list[dict[str, Any]]:
    """A profile three ways: calibrated (which is saved and drawn), microbenchmarks alone, and carried from another."""
    calibrated, alone = load_profile(name), measured(name)
    save_judged(name, calibrated, CALIBRATED)
    rows = [_row(name, OWN, "held out", held_out(judge(name, calibrated)))]
    rows.append(_row(name, ALONE, "all", judge(name, alone)))
    for other in PROFILES:
        if other != name:
            values = carried(load_profile(other), measured(other), alone)
            moved = alone.with_calibrated(values, f"carried from {other}")
            rows.append(_row(name, f"constants carried from {other}", "all", judge(name, moved)))
    return rows


def replicated(name: str) -> list[dict[str, Any]]:
    """Another machine of a known kind: with its own profile, and with the one that is shipped for its kind.

    If its replays say what the host's calls took, each way with these as well.
    """
    calibrated, alone = load_profile(str(HOME / f"{name}.toml")), measured(name)
    save_judged(name, calibrated, CALIBRATED)
    ways = {
        (OWN, "held out"): held_out(judge(name, calibrated)),
        (ALONE, "all"): judge(name, alone),
        (f"{REPLICATIONS[name]} as shipped", "all"): judge(name, load_profile(REPLICATIONS[name])),
    }
    return [row for (how, which), cells in ways.items() for row in _seen(name, how, which, cells)]


def unmeasured(name: str) -> list[dict[str, Any]]:
    """Another machine of a known kind, foretold by the profile that is shipped for its kind alone."""
    shipped = load_profile(UNMEASURED[name])
    save_judged(name, shipped, "the shipped profile, measured and calibrated on other machines")
    return _seen(name, f"{UNMEASURED[name]} as shipped", "all", judge(name, shipped))


def emulation() -> dict[str, Any]:
    """A slower machine's link on that of the replication, calibrated with its own link."""
    cells = judge_emulated(load_profile(str(HOME / f"{EMULATING}.toml")))
    return _row(EMULATED, f"emulated {SLOWER}", "held out", cells)


def judge_emulated(mine: HardwareProfile) -> list[CellFidelity]:
    """All cells of the emulation."""
    steps = read_steps(HOME / f"{EMULATED}.steps.parquet")
    slower = load_profile(str(HOME / f"{SLOWER}.emulated.toml"))  # as it was when the replays were made
    return rejudged(steps, emulating(tuple(steps), traces_by_phase(TRACES), mine, slower))


def kept(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the summary for the package: those with a profile's constants, as a user's host is unseen."""
    return [accuracy(row) for row in rows if not row["profile"].endswith(SEEN)]


def accuracy(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the summary as the package keeps it."""
    figures = ("cells", "median_abs_error", "p95_abs_error", "worst_abs_error", "kendall_tau")
    constants = SAID.get(row["profile"], row["profile"])
    known = {"profile": row["device"], "constants": constants, "held_out": row["which"] == "held out"}
    return known | {name: row[name] for name in figures}


def measured(name: str) -> HardwareProfile:
    """The microbenchmarks."""
    return load_profile(str(HOME / f"{name}.measured.toml"))


def judge(name: str, profile: HardwareProfile) -> list[CellFidelity]:
    """All cells replayed on a machine, as a profile predicts them."""
    steps = read_steps(HOME / f"{name}.steps.parquet")
    return rejudged(steps, plan(tuple(steps), traces_by_phase(TRACES), profile))


def held_out(cells: Sequence[CellFidelity]) -> list[CellFidelity]:
    """Those that nothing was fitted on."""
    return [cell for cell in cells if cell.cell.role == "held_out"]


def save_judged(name: str, profile: HardwareProfile, judged_with: str) -> None:
    """The files of a validation, and its figures."""
    former, steps = load(HOME / f"{name}.json").circumstances, read_steps(HOME / f"{name}.steps.parquet")
    planned = plan(tuple(steps), traces_by_phase(TRACES), profile)
    note = f"replayed on {former.date}; judged with {judged_with}"
    planned = dataclasses.replace(planned, notes=(note,))
    told = circumstances(planned, name, former.device, former.seconds, former.date, former.versions)
    cells = rejudged(steps, planned)
    save(HOME, told, cells, steps)
    about = about_of(told)
    for plot, draw in PLOTS.items():
        draw(cells, IMAGES / f"validation-{name}-{plot}.png", headline(cells), about)


def filled(page: str) -> str:
    """The page with its tables made again."""
    tables = {"overall": _overall_table(), "halves": _halves_table(), "ratios": _ratios_table()}
    tables |= {name: _group_table(name) for name in GROUPED}
    for name, table in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
        page, found = re.subn(pattern, lambda m, t=table: m[1] + t + m[2], page, flags=re.DOTALL)  # type: ignore[misc]
        assert found == 1, f"{PAGE}: no place for {name}"
    return page


def _row(name: str, how: str, which: str, cells: Sequence[CellFidelity]) -> dict[str, Any]:
    return {"device": name, "profile": how, "which": which, **dataclasses.asdict(overall(cells))}


def _seen(name: str, how: str, which: str, cells: Sequence[CellFidelity]) -> list[dict[str, Any]]:
    """Rows of a way to judge, and of the same with the calls of the host, if the replays saw them."""
    rows = [_row(name, how, which, cells)]
    if any(cell.with_host for cell in cells):
        rows.append(_row(name, f"{how}{SEEN}", which, [cell.by_its_host for cell in cells]))
    return rows


def _overall_table() -> str:
    rows: list[dict[str, Any]] = json.loads(SUMMARY.read_text())
    head = "| replayed on | profile | cells | median | p95 | worst | steps' correlation | Kendall tau (pairs) |"
    lines = [head, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        errors = " | ".join(percent(row[f"{which}_abs_error"]) for which in ("median", "p95", "worst"))
        order = f"{row['kendall_tau']:.3f} ({row['kendall_pairs']})"
        cells = f"{row['cells']} {row['which']}"
        correlation = f"{row['median_step_correlation']:.4f}"
        lines.append(f"| {row['device']} | {row['profile']} | {cells} | {errors} | {correlation} | {order} |")
    return "\n".join(lines)


def _halves_table() -> str:
    """Held-out cells beside cells that constants were fitted on, and those of groups that were held out whole."""
    head = "| replayed on | held-out cells in fitted groups: median, worst | whole groups held out: median, worst |"
    lines = [head, "| --- | --- | --- |"]
    for name in (*PROFILES, *REPLICATIONS, *UNMEASURED):
        fitted, whole = (overall(half) for half in halves(load(HOME / f"{name}.json").cells))
        errors = [
            f"{percent(half.median_abs_error)}, {percent(half.worst_abs_error)} ({half.cells} cells)"
            for half in (fitted, whole)
        ]
        lines.append(f"| {name} | {errors[0]} | {errors[1]} |")
    return "\n".join(lines)


def halves(cells: Sequence[CellFidelity]) -> tuple[list[CellFidelity], list[CellFidelity]]:
    """Held-out cells of groups with fitted cells (the easy half), and of groups without any (the hard half)."""
    fitted = {cell.cell.group for cell in cells if cell.cell.role == "fit"}
    easy, hard = [], []
    for cell in held_out(cells):
        (easy if cell.cell.group in fitted else hard).append(cell)
    return easy, hard


def _ratios_table() -> str:
    lines = ["| replay | style | pairs | median | p95 | worst |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for row in json.loads(RATIOS.read_text())["rows"]:
        errors = " | ".join(percent(row[name]) for name in ("median", "p95", "worst"))
        lines.append(f"| {row['replay']} | {row['style']} | {row['pairs']} | {errors} |")
    return "\n".join(lines)


def _group_table(name: str) -> str:
    """Held-out cells by group, with the calls of the host where the replay saw them."""
    cells = [cell.by_its_host for cell in held_out(load(HOME / f"{name}.json").cells)]
    head = "| group | held-out cells | step, ms | median error | worst error | worst cell |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | --- |"]
    for group in dict.fromkeys(cell.cell.group for cell in cells):
        mine = [cell for cell in cells if cell.cell.group == group]
        found: Overall = overall(mine)
        means = sorted(cell.measured.mean_ns / 1e6 for cell in mine)
        worst = found.worst_cell.removeprefix(f"{group}/")
        span = f"{means[0]:.2f} .. {means[-1]:.2f}"
        errors = f"{percent(found.median_abs_error)} | {percent(found.worst_abs_error)}"
        lines.append(f"| {group} | {len(mine)} | {span} | {errors} | {worst} |")
    return "\n".join(lines)


def percent(share: float) -> str:
    """For people."""
    return f"{100 * share:.2f} %"


if __name__ == "__main__":
    main()
