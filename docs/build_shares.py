"""Fit the shares of a machine's rates that fused kernels reach: specmoe/hwprofiles/data/kernel_shares.json.

`python docs/build_shares.py` fits them to the `fused` curves of the bundled profiles.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specmoe.files import replacing
from specmoe.hwprofiles.catalogue import load_profile, profile_names
from specmoe.hwprofiles.kernels import CLASSES, PARTS, FormatClass, Shares, class_of
from specmoe.hwprofiles.share_fit import fit_shares, measured_launches

OUT = Path(__file__).parents[1] / "specmoe" / "hwprofiles" / "data" / "kernel_shares.json"


def main() -> None:
    """Fit and write: 16 bits first, whose share of bandwidth is that of the other classes."""
    measured = measured_launches(map(load_profile, profile_names()))
    table: dict[FormatClass, Shares] = {}
    for kind in CLASSES:
        mine = [one for one in measured if class_of(one.launch.held) == kind]
        memory = table["16-bit"].memory if table else None
        names = ", ".join(dict.fromkeys(one.profile.name for one in mine))
        formats = ", ".join(dict.fromkeys(one.launch.held for one in mine))
        ref = f"fitted to {len(mine)} launches of fused experts in {formats} on {names}"
        table[kind] = fit_shares(mine, ref, memory)
    with replacing(OUT) as fresh:
        fresh.write_text(
            json.dumps({kind: _row(one) for kind, one in table.items()}, indent=1) + "\n", encoding="utf-8"
        )


def _row(shares: Shares) -> dict[str, Any]:
    return {part: getattr(shares, part)._asdict() for part in PARTS} | {"ref": shares.ref}


if __name__ == "__main__":
    main()
