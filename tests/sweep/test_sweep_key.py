"""A cell's key: other where anything is that its row depends on, and the same where nothing is."""

from __future__ import annotations

import dataclasses
import os
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import BASE, LINK, cell

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import Style
from specmoe.sim.config import Home
from specmoe.sim.sweep import grid as contents
from specmoe.sim.sweep.grid import Contents

CHANGES: dict[str, Any] = {
    "trace": "switch-mini-128/decode/train",
    "policy": "static",
    "profile": "a6000",
    "shape": "switch-base-64",
    "format": "int8",
    "slots": 61,
    "cache_bytes": 1 << 20,
    "vram": 1,
    "context": 9,
    "kv_format": "q8_0",
    "assumed_reserve": 5,
    "batch": 2,
    "steps": 41,
    "warm_up": 7,
    "staggered": False,
    "truncated": True,
    "link": "priority",
    "home": Home("nvme"),
    "host_set": "eager",
    "threads": 4,
    "padded": True,
    "train": "switch-mini-128/decode/test",
    "source": ("fiction",),
    "train_source": ("fiction",),
    "style": Style("fused", "grouped"),
    "dense_format": "int8",
    "verify": 2,
    "assumed_acceptance": (0.5,),
    "prefill": "switch-mini-128/encode/test",
    "pieces": 2,
    "draws": 20,
    "seed": 1,
    "settings": ((LINK, 1e9),),
    "scales": ((LINK, 2.0),),
}


def test_every_field_counts() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(BASE)}
    keys = [
        Contents().key(BASE),
        *(Contents().key(dataclasses.replace(BASE, **{name: value})) for name, value in CHANGES.items()),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {64}
    assert Contents().key(BASE) == Contents().key(cell())


def own(kind: str, name: str, directory: Path) -> Path:
    """A copy of a shipped profile or shape."""
    return Path(shutil.copy(Path(str(files("specmoe.hwprofiles") / kind / f"{name}.toml")), directory))


@pytest.mark.parametrize(("kind", "name", "old", "new"), [
    ("profiles", "rtx3090", "value = 24.79", "value = 24.78"),
    ("shapes", "switch-base-128", "d_ff = 3072", "d_ff = 3073"),
])  # fmt: skip
def test_what_a_profile_or_shape_says_counts_and_not_when_it_was_written(
    tmp_path: Path, kind: str, name: str, old: str, new: str
) -> None:
    path = own(kind, name, tmp_path)
    one = cell(**{kind.removesuffix("s"): str(path)})
    before = Contents().key(one)
    os.utime(path, (0, 0))
    assert Contents().key(one) == before
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert Contents().key(one) != before


def test_what_a_trace_holds_counts(make_trace: Any) -> None:
    path = make_trace(50, seed=1)
    one = cell(trace=str(path))
    before = Contents().key(one)
    make_trace(50, seed=2)
    assert Contents().key(one) != before


def test_what_a_network_holds_counts(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1")
    one = cell("learned-contextual", {"predictor.checkpoint": str(tmp_path)})
    before = Contents().key(one)
    (tmp_path / "weights").write_bytes(b"2")
    assert Contents().key(one) != before


def test_the_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Contents().key(BASE)
    monkeypatch.setattr(contents, "__version__", "99")
    assert Contents().key(BASE) != before


def test_files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    honest = Contents._read
    monkeypatch.setattr(Contents, "_read", lambda self, kind, name: read.append(kind) or honest(self, kind, name))
    known = Contents()
    for slots in range(1, 9):
        known.key(cell(slots=slots))
    assert sorted(read) == ["profile", "shape", "trace", "train"]
    assert {kind: list(names) for kind, names in known.known.items()} == {
        "profile": ["rtx3090"],
        "shape": ["switch-base-128"],
        "trace": ["switch-mini-128/decode/test"],
        "train": ["switch-mini-128/decode/train"],
    }


@pytest.mark.parametrize("changes", [{"trace": "nowhere"}, {"profile": "gtx"}, {"shape": "gpt"}])
def test_no_key_without_its_files(changes: dict[str, str]) -> None:
    with pytest.raises(InputError):
        _ = Contents().key(cell(**changes))
