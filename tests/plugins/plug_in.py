"""Packages of others, installed into a directory as pip would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from specmoe.sim.config import RunConfig
from specmoe.sim.run import Scenario

Groups = Mapping[str, Mapping[str, str]]  # by group: by name, what it stands for


def install(directory: Path, name: str, groups: Groups, modules: Mapping[str, str], version: str = "0.1") -> None:
    """Modules, and what importlib.metadata reads; the directory has to be on `sys.path`."""
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = (
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in of.items()) for group, of in groups.items()
    )
    (info / "entry_points.txt").write_text("".join(lines))
    for module, source in modules.items():
        (directory / f"{module}.py").write_text(source)


def hits(policy: str) -> int:
    """Of a run on few slots, in whatever process this is called: a worker finds this module by its name."""
    spec = RunConfig("switch-mini-128/decode/test", slots=4, steps=100)
    return int(Scenario(spec).run(policy).result.table["hits"].sum())
