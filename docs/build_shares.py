"""Fit the shares of a machine's rates that fused kernels reach: specmoe/hwprofiles/data/kernel_shares.json.

`python docs/build_shares.py` fits them to the `fused` curves of the bundled profiles. A class of formats without curves
takes the times below; a class that has neither takes the range of the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from specmoe.files import replacing
from specmoe.hwprofiles.catalogue import load_profile, load_shape, profile_names
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format
from specmoe.hwprofiles.share_fit import Timed, fit_shares, measured_launches
from specmoe.hwprofiles.shares import (
    CLASSES,
    PARTS,
    FormatClass,
    Launch,
    Share,
    Shares,
    Size,
    class_of,
)

OUT = Path(__file__).parents[1] / "specmoe" / "hwprofiles" / "data" / "kernel_shares.json"
TOKENS = (1, 4, 16, 64)
SINGLE: dict[Format, dict[str, tuple[int, ...]]] = {  # us an expert alone, on TOKENS, h100-sxm5-80gb
    "int4": {
        "gpt-oss-20b": (21, 26, 50, 133),
        "qwen3-30b-a3b": (13, 16, 19, 38),
        "mixtral-8x7b": (63, 84, 214, 798),
        "switch-base-128": (11, 12, 17, 35),
    },
    "bf16": {
        "gpt-oss-20b": (32, 34, 36, 33),
        "qwen3-30b-a3b": (17, 18, 19, 19),
        "mixtral-8x7b": (135, 135, 139, 146),
    },
}
SINGLE_REF = "provisional: fitted to single experts in torch's {} kernel on an NVIDIA H100, not to fused curves"


def main() -> None:
    """Fit and write."""
    measured = measured_launches(map(load_profile, profile_names()))
    shares = {kind: _shares(kind, [one for one in measured if class_of(one.launch.held) == kind]) for kind in CLASSES}
    known = [one for one in shares.values() if one]
    table = {kind: _row(one or _between(known)) for kind, one in shares.items()}
    with replacing(OUT) as fresh:
        fresh.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _shares(kind: FormatClass, measured: Sequence[Timed]) -> Shares | None:
    if measured:
        names = ", ".join(dict.fromkeys(one.profile.name for one in measured))
        formats = ", ".join(dict.fromkeys(one.launch.held for one in measured))
        return fit_shares(measured, f"fitted to {len(measured)} launches of fused experts in {formats} on {names}")
    for held, rows in SINGLE.items():
        if class_of(held) == kind:
            return fit_shares(list(_single(load_profile("h100-sxm5-80gb"), held, rows)), SINGLE_REF.format(held))
    return None


def _single(profile: HardwareProfile, held: Format, rows: dict[str, tuple[int, ...]]) -> list[Timed]:
    shapes = {name: load_shape(name) for name in rows}
    sizes = {name: Size(shape.d_model, shape.experts.d_ff, shape.experts.gated) for name, shape in shapes.items()}
    return [
        Timed(profile, Launch(sizes[name], held, 1, tokens), time * 1e3)
        for name, times in rows.items()
        for tokens, time in zip(TOKENS, times, strict=True)
    ]


def _between(known: Sequence[Shares]) -> Shares:
    """Geometric means of other classes, and the range of them all."""
    parts = [[getattr(one, part) for one in known] for part in PARTS]
    ranges = [
        Share(
            round(prod(one.value for one in part) ** (1 / len(part)), 4),
            min(one.low for one in part),
            max(one.high for one in part),
        )
        for part in parts
    ]
    return Shares.of(ranges, "provisional: no kernels were measured; between those of the other classes")


def _row(shares: Shares) -> dict[str, Any]:
    return {part: getattr(shares, part)._asdict() for part in PARTS} | {"ref": shares.ref}


if __name__ == "__main__":
    main()
