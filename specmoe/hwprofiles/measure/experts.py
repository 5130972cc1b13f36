"""Experts out of their slots, as a replay runs them: captured, their weights in several places in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from specmoe.hwprofiles.formats import BITS, GROUP, Format, bytes_of, is_compressed
from specmoe.hwprofiles.measure.bench import Bench, Beside
from specmoe.hwprofiles.measure.device_time import Effort, buffers, computing, computing_cold, in_turn
from specmoe.hwprofiles.measure.layers import DTYPES, SCALE, ExpertKernel, Run, expand
from specmoe.hwprofiles.measure.sample import Sample
from specmoe.hwprofiles.shape import ModelShape

BESIDE_NS = 2_000_000  # of work that copies are measured beside, in one launch


class Experts:
    """Some experts of a shape in one format."""

    def __init__(self, shape: ModelShape, held: Format, bench: Bench) -> None:
        self.bench = bench
        self.kernel = ExpertKernel(shape, held, bench.device)
        places = range(buffers(shape.expert_bytes(held), bench))
        self.weights = [made_up(shape.expert_parameters, held, bench.device) for _ in places]

    def runs(self, tokens: int) -> list[Run]:
        """Each expert on so many tokens, not captured."""
        return [self.kernel.bind(weights, tokens)[0] for weights in self.weights]

    def launches(self, tokens: int) -> list[Run]:
        """Each expert, captured."""
        return [self.bench.captured(run) for run in self.runs(tokens)]

    def sample(self, tokens: int, effort: Effort) -> Sample:
        """Time of one expert alone on so many tokens, its expansion included.

        What a compressed one is expanded to would stay in the device's last cache from one to the next; in a replay
        the dense part comes between.
        """
        if not is_compressed(self.kernel.held):
            return computing(self.bench, self.launches(tokens), effort)
        return computing_cold(self.bench, self.runs(tokens), effort)

    def beside(self, effort: Effort) -> Beside:
        """Experts on one token each, one after the other in one launch."""
        runs = self.runs(1)
        each = computing(self.bench, [self.bench.captured(run) for run in runs], effort).median
        times = max(1, round(BESIDE_NS / max(each, 1)))
        turn = in_turn(runs)

        def all_runs() -> None:
            for _ in range(times):
                turn()

        launch = self.bench.captured(all_runs)
        return Beside(launch, max(1.0, computing(self.bench, [launch], effort).median))


def made_up(parameters: int, held: Format, device: torch.device, seed: int | None = None) -> Tensor:
    """The bytes of an expert's weights, [expert_bytes]; random, for zeros would run faster."""
    generator = torch.Generator(device)
    generator.seed() if seed is None else generator.manual_seed(seed)
    if not is_compressed(held):
        weights = torch.randn(parameters, device=device, generator=generator) * SCALE
        return weights.to(DTYPES[held]).view(torch.uint8)  # type: ignore[index]  # not compressed
    size, data = bytes_of(parameters, held), -(-parameters * BITS[held] // 8)
    packed = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device, generator=generator)
    packed[data:].view(torch.float16).fill_(SCALE / (1 << BITS[held] - 1))
    return packed


def expansion(expanded: int, held: Format, bench: Bench, effort: Effort) -> Sample:
    """Time of expanding to so many bytes, from several places in turn."""
    parameters = expanded // DTYPES["fp16"].itemsize // GROUP * GROUP
    places = range(buffers(expanded, bench))
    packed = [made_up(parameters, held, bench.device) for _ in places]
    return computing(bench, [bench.captured(_expanding(part, held, parameters, expanded)) for part in packed], effort)


def _expanding(packed: Tensor, held: Format, parameters: int, expanded: int) -> Run:
    """Into a place of its own, as a slot is."""
    out = torch.empty(expanded, dtype=torch.uint8, device=packed.device)
    return lambda: expand(packed, held, parameters, out)
