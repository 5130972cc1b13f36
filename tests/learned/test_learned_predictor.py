"""A trained network as a predictor: it does not peek, and says in one line what does not fit."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learned_cases import learnable, routed
from predictor_contract import check_no_peeking, check_well_formed

pytest.importorskip("torch")

from specmoe.errors import InputError, MissingExtraError
from specmoe.sim.speculate.learned.config import ARCHITECTURES
from specmoe.sim.speculate.learned.predictor import Learned
from specmoe.sim.speculate.predictors import make_predictor
from specmoe.traces import store

Trained = Callable[..., Path]
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_architecture
@pytest.mark.parametrize("phase", ["decode", "encode"])
@pytest.mark.parametrize("batch", [1, 3])
def test_no_peeking(architecture: str, phase: str, batch: int, trained: Trained) -> None:
    known = routed(*learnable(40, seed=3, phase=phase, has_lookahead=True), batch)
    checkpoint = str(trained(architecture, phase))
    for layer in range(3):
        check_no_peeking(lambda: Learned(3, architecture, checkpoint), known, None, 1, layer, layer)


@every_architecture
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_well_formed(architecture: str, phase: str, trained: Trained) -> None:
    known = routed(*learnable(40, seed=3, phase=phase, has_lookahead=True), 2)
    check_well_formed(lambda: Learned(3, architecture, str(trained(architecture, phase))), known)


@every_architecture
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_a_row_alone_is_guessed_as_in_a_block_to_the_last_bit(architecture: str, phase: str, trained: Trained) -> None:
    """Sums of another length are rounded otherwise in float32: a live run, row by row, would choose other experts."""
    block, meta = learnable(40, seed=3, phase=phase, has_lookahead=True)
    predictor = Learned(3, architecture, str(trained(architecture, phase)))
    together = predictor.of_rows(block, np.arange(40), meta)
    for row in range(0, 40, 4):
        for one, all_rows in zip(predictor.of_rows(block, np.array([row]), meta), together, strict=True):
            np.testing.assert_array_equal(one[0], all_rows[row])


@every_architecture
def test_dropped_tokens_are_no_candidates(architecture: str, trained: Trained) -> None:
    block, meta = learnable(40, dropless=False, has_lookahead=True)
    experts = block.experts.copy()
    experts[::3, :, 0] = -1
    check_well_formed(
        lambda: Learned(1, architecture, str(trained(architecture))), routed(block._replace(experts=experts), meta)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 4}, "trained for layers 3, but this trace has 4"),
        ({"num_experts": 9}, "trained for experts 8, but this trace has 9"),
        ({"top_k": 2}, "trained for top_k 1, but this trace has 2"),
        ({"phase": "encode"}, "trained for phase decode, but this trace has encode"),
        ({"candidates": 2}, "trained on 3 candidates, but this trace has 2"),
        ({"has_probs": False}, "no router probabilities in this trace"),
        ({"has_lookahead": False}, "no look-ahead in this trace"),
    ],
)
def test_another_trace(changes: dict[str, Any], message: str, trained: Trained) -> None:
    known = routed(*learnable(20, **{"has_lookahead": True} | changes))
    with pytest.raises(InputError, match=message):
        Learned(1, "fusion", str(trained("fusion"))).guess(known)


def test_what_is_asked_must_have_been_trained(trained: Trained) -> None:
    known, checkpoint = routed(*learnable(20)), str(trained("contextual"))
    with pytest.raises(InputError, match="trained 3 layers ahead: no depth 4 expected"):
        Learned(4, "contextual", checkpoint).guess(known)
    with pytest.raises(InputError, match="trained as contextual, not as transformer"):
        Learned(1, "transformer", checkpoint).guess(known)
    with pytest.raises(InputError, match="architecture 'cnn': one of contextual, fusion, hierarchical, transformer"):
        Learned(1, "cnn")


def test_no_checkpoint(tmp_path: Path) -> None:
    known = routed(*learnable(20))
    wanted = "`specmoe train TRACE --architecture hierarchical --out DIR` and name it by --set predictor.checkpoint=DIR"
    with pytest.raises(InputError, match=wanted):
        make_predictor("learned-hierarchical").guess(known)
    with pytest.raises(InputError, match=r"no trained predictor: predictor.json and model.safetensors expected"):
        Learned(checkpoint=str(tmp_path)).guess(known)


def test_the_bundled_one_of_the_model_is_found(trained: Trained, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(trained("contextual"), tmp_path / "tiny/predictors/decode/contextual")
    monkeypatch.setattr(store, "root", lambda: tmp_path)
    known = routed(*learnable(20))
    one, two = make_predictor("learned-contextual"), Learned(1, "contextual", str(trained("contextual")))
    assert one.guess(known).experts.tolist() == two.guess(known).experts.tolist()


@pytest.mark.parametrize("damage", ["card", "config", "weights"])
def test_a_damaged_checkpoint(damage: str, trained: Trained, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(trained("contextual"), tmp_path / "broken"))
    card = json.loads((broken / "predictor.json").read_text())
    if damage == "weights":
        (broken / "model.safetensors").write_bytes(b"torn")
    else:
        changed = {"config": {**card["config"], "width": 17}} if damage == "config" else {"config": 3}
        (broken / "predictor.json").write_text(json.dumps(card | changed))
    with pytest.raises(InputError, match=r"broken: damaged \(.*\): train it again") as error:
        Learned(1, "contextual", str(broken)).guess(routed(*learnable(20)))
    assert "\n" not in str(error.value)


def test_without_torch(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"torch is not installed: pip install -e '.\[torch\]'"):
        Learned(1, "contextual", str(trained("contextual"))).guess(routed(*learnable(20)))


def test_an_unknown_device(trained: Trained) -> None:
    with pytest.raises(InputError, match="--device abacus: auto, cpu or cuda expected"):
        Learned(1, "contextual", str(trained("contextual")), "abacus").guess(routed(*learnable(20)))
