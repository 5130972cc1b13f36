"""The error of a comparison of two policies, by hand and as it is shipped."""

from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import builder_of

from specmoe.hwprofiles.expected_error import RatioError, ratio_error, ratio_errors
from specmoe.hwprofiles.kernels import USUAL, style_of
from specmoe.validate.fidelity import ratio_errors as errors_of
from specmoe.validation_table import CellFidelity, CellKey, Side

DOCS = Path(__file__).parent.parent.parent / "docs"
KNOWN = (
    RatioError("one", "expand/separate", 30, 0.01, 0.02, 0.05),
    RatioError("two", "expand/separate", 30, 0.01, 0.03, 0.04),
    RatioError("one", "fused/grouped", 3, 0.1, 0.2, 0.3),
)


def cell(policy: str, measured: float, simulated: float, slots: int = 4) -> CellFidelity:
    key = CellKey("s", "decode", "fp16", None, 1, 10, policy, slots, "held_out")
    sides = [Side(mean, mean, mean, mean, 0, 0) for mean in (measured, simulated)]
    return CellFidelity(key, 2, *sides, spread=0, noise_ns=0, step_correlation=None)


def test_by_hand_an_error_that_policies_share_is_none_of_their_ratio() -> None:
    assert errors_of([cell("a", 100, 110), cell("b", 200, 220)]) == pytest.approx([0])


def test_by_hand_a_ratio_is_off_by_as_much_in_both_orders() -> None:
    cells = [cell("a", 100, 110), cell("b", 200, 200)]
    assert errors_of(cells) == errors_of(cells[::-1]) == pytest.approx([0.1])


def test_only_cells_that_differ_in_policy_alone_are_pairs() -> None:
    assert errors_of([cell("a", 1, 1), cell("b", 1, 2, slots=5), cell("a", 1, 2)]) == []


@pytest.mark.parametrize(("validated", "error"), [(True, 0.03), (False, 0.05)])
def test_a_style_has_the_largest_error_of_its_replays(validated: bool, error: float) -> None:
    assert ratio_error("fp16", USUAL, validated, KNOWN) == error


def test_a_style_of_few_pairs_has_the_largest_error_of_all() -> None:
    assert ratio_error("int4", style_of("fused/grouped"), True, KNOWN) == 0.2


def test_compressed_experts_have_the_error_of_their_own_multiplication() -> None:
    assert ratio_error("int4", style_of("expand/separate"), True, KNOWN) == 0.03
    assert ratio_error("int4", style_of("fused/separate"), True, KNOWN) == 0.2


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return builder_of("validation")


def test_the_shipped_errors_are_those_of_the_replays_and_of_the_page(builder: ModuleType) -> None:
    assert [RatioError(**row) for row in builder.ratios()] == list(ratio_errors())
    assert builder._ratios_table() in (DOCS / "validation.md").read_text(encoding="utf-8")
