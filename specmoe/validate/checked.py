"""The correctness of a replay on a CUDA device: the bits of every expert's output, and what they must be."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specmoe.validate.cuda import TRUTH, CudaDevice
from specmoe.validate.device import Work

BITS = {2: torch.int16, 4: torch.int32}  # by the width of a number


class CheckedCudaDevice(CudaDevice):
    """Sums the bits of every expert's output behind its kernel. The pool must hold every key."""

    def prepare(self, work: Work) -> None:
        """Put those experts into slots that are there from the start."""
        super().prepare(work)
        uses = work.table.uses
        there = uses.load < 0
        for slot, key in sorted(set(zip(uses.slot[there].tolist(), uses.key[there].tolist(), strict=True))):
            self.settle(slot, key)
        self._sums = torch.zeros(len(work.tokens), dtype=torch.int64, device=self.device)
        torch.cuda.synchronize(self.device)

    def launch(self, use: int) -> None:
        """Launch an expert, and the sum."""
        super().launch(use)
        torch.sum(self._bits(self.work.tokens[use]), 0, dtype=torch.int64, out=self._sums[use])

    def outputs(self) -> NDArray[np.int64]:
        """What every expert of the last run computed, [uses]."""
        return self._sums.cpu().numpy()

    def truth(self) -> NDArray[np.int64]:
        """What it must compute, [uses]: each expert in a slot of its own, where nothing else ever is."""
        known: dict[tuple[int, int], int] = {}
        pairs = list(zip(self.work.table.uses.key.tolist(), self.work.tokens, strict=True))
        for key, tokens in sorted(set(pairs)):
            known[key, tokens] = self._alone(key, tokens)
        return np.array([known[pair] for pair in pairs], np.int64)

    def _alone(self, key: int, tokens: int) -> int:
        self.settle(TRUTH, key)
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.compute):
            self.expert(TRUTH, tokens, False).replay()
            return int(self._bits(tokens).sum(dtype=torch.int64))

    def _bits(self, tokens: int) -> Tensor:
        output = self.kernel.output(tokens)
        return output.view(BITS[output.itemsize]).view(-1)
