"""Rounding probabilities for smaller files, and saying so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block

from specmoe import traces
from specmoe.errors import InputError
from specmoe.traces.schema import round_probs
from specmoe.traces.splitting import split_trace
from specmoe.traces.summary import count_sequences


@pytest.mark.parametrize(
    ("bits", "value", "rounded"), [(1, 0.3, 0.25), (2, 0.3, 0.25), (3, 0.3, 0.3125), (6, 0.1, 0.1)]
)
def test_by_hand_rounded_probabilities(bits: int, value: float, rounded: float) -> None:
    block = random_block(1, META)
    block = block._replace(probs=np.full_like(block.probs, value))
    found = float(round_probs(block, bits).probs[0, 0, 0])
    assert found == pytest.approx(rounded, rel=2.0**-7 if bits == 6 else 0)


@given(bits=st.integers(1, 11), seed=st.integers(0, 99))
def test_rounding_keeps_order_and_is_close(bits: int, seed: int) -> None:
    block = random_block(20, META, seed)
    exact, found = block.probs.astype(np.float64), round_probs(block, bits).probs.astype(np.float64)
    normal = exact > 2.0**-14
    assert (np.abs(found - exact)[normal] <= exact[normal] * 2.0**-bits).all()
    assert (np.diff(found, axis=-1) <= 0).all()
    assert (found <= 1).all()
    significand = np.frexp(found[normal])[0] * 2.0**bits
    assert (significand == np.round(significand)).all()


def test_unknown_probabilities_stay_unknown_when_rounded() -> None:
    unknown = dataclasses.replace(META, has_probs=False)
    assert np.isnan(round_probs(random_block(5, unknown), 4).probs).all()


def test_a_split_with_rounded_probabilities_says_so(make_trace: Callable[..., Path], tmp_path: Path) -> None:
    whole = traces.open(make_trace(300, split="test"))
    parts = split_trace(whole, (0.6, 0.2, 0.2), 0, tmp_path / "parts", prob_bits=5)
    notes = traces.open(parts["train"]).meta.notes
    assert "probabilities rounded to 5 significant bits" in notes
    assert any("text that was the test split" in note for note in notes)
    assert any(note.endswith(f"of {count_sequences(whole)} recorded sequences") for note in notes)
    with pytest.raises(InputError, match="1 to 11"):
        split_trace(whole, (0.6, 0.2, 0.2), 0, tmp_path / "more", prob_bits=12)
