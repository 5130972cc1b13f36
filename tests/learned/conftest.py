from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from learned_cases import SIZES, write_learnable

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_learnable(tmp_path_factory.mktemp("traces") / "decode.parquet")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The checkpoint of an architecture for a phase, trained once for all tests."""
    from specmoe.sim.speculate.learned.job import TrainJob, train
    from specmoe.sim.speculate.learned.training import Recipe

    made: dict[tuple[str, str], Path] = {}

    def checkpoint(architecture: str, phase: str = "decode") -> Path:
        if (architecture, phase) not in made:
            home = tmp_path_factory.mktemp(f"{architecture}-{phase}")
            source = write_learnable(home / "trace.parquet", phase=phase, has_lookahead=True)
            recipe = Recipe(epochs=12, batch=8, rate=2e-2)
            train(TrainJob(str(source), architecture, home / "out", recipe, sizes=SIZES, device="cpu"))
            made[architecture, phase] = home / "out"
        return made[architecture, phase]

    return checkpoint
