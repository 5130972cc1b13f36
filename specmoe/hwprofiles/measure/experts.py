"""Experts and dense parts as a replay runs them: captured as graphs, with weights in several alternating places."""

from functools import cached_property, partial

import torch
from torch import Tensor

from specmoe.hwprofiles.measure import layers as layer_kernels
from specmoe.hwprofiles.measure.bench import Bench, Beside, Effort, Sample, buffers, computing, computing_cold, in_turn
from specmoe.hwprofiles.shape import (
    GROUP,
    ComputeFormat,
    Format,
    ModelShape,
    Phase,
    bytes_of,
    compute_format,
    is_compressed,
    is_expandable,
)

BESIDE_NS = 2_000_000  # duration of the launch that runs during measured copies
ALIGNMENT = 256  # bytes, as of slots
MOST_TOKENS = 64  # of one expert in one entry of a launch of the fused kernel
ROUTERS = 8  # per graph, so that the launch hardly counts
MOST_LAYERS = 8  # that take turns
POSITIONS = 32  # of the dense parts between groups


class Experts:
    """Several experts of a shape in one format."""

    def __init__(self, shape: ModelShape, held: Format, bench: Bench) -> None:
        self.bench = bench
        self.kernel = layer_kernels.ExpertKernel(shape, held, bench.device)
        places = range(buffers(shape.expert_bytes(held), bench))
        self.weights = [made_up(shape.expert_parameters, held, bench.device) for _ in places]

    def runs(self, tokens: int) -> list[layer_kernels.Run]:
        """Run of each expert on `tokens` tokens, not captured."""
        return [self.kernel.bind(weights, tokens)[0] for weights in self.weights]

    def launches(self, tokens: int) -> list[layer_kernels.Run]:
        """Captured run of each expert on `tokens` tokens."""
        return [self.bench.captured(run) for run in self.runs(tokens)]

    def sample(self, tokens: int, effort: Effort) -> Sample:
        """Time of one expert alone on `tokens` tokens, expansion included.

        Compressed experts are timed with a cold cache: their expanded weights would stay in the device's last cache
        from one run to the next, whereas in a replay the dense part comes between.
        """
        if not is_compressed(self.kernel.held):
            return computing(self.bench, self.launches(tokens), effort)
        return computing_cold(self.bench, self.runs(tokens), effort)

    def beside(self, effort: Effort) -> Beside:
        """One launch of many experts in sequence, on one token each."""
        runs = self.runs(1)
        each = computing(self.bench, [self.bench.captured(run) for run in runs], effort).median
        times = max(1, round(BESIDE_NS / max(each, 1)))
        turn = in_turn(runs)

        def all_runs() -> None:
            for _ in range(times):
                turn()

        launch = self.bench.captured(all_runs)
        return Beside(launch, max(1.0, computing(self.bench, [launch], effort).median))


class Groups:
    """Several experts of a shape that the fused kernel reads from their slots."""

    def __init__(self, shape: ModelShape, held: Format, most: int, bench: Bench) -> None:
        from specmoe.hwprofiles.measure.fused import FusedKernel

        self.bench, size = bench, shape.expert_bytes(held)
        count = max(most, buffers(size, bench))
        slots = torch.empty((count, -(-size // ALIGNMENT) * ALIGNMENT), dtype=torch.uint8, device=bench.device)
        for slot in slots:
            slot[:size] = made_up(shape.expert_parameters, held, bench.device)
        self.kernel = FusedKernel(shape, held, slots)
        self.dense = DenseParts(shape, "decode", compute_format(held), bench)
        self.dense_ns: dict[Effort, float] = {}
        self.layer = shape.stack("decode").moe_layers - 1

    def sample(self, experts: int, tokens: int, effort: Effort) -> Sample:
        """Time of one launch of `experts` experts on `tokens` tokens each, as a run meets it: behind a dense part.

        The time of the dense part behind single experts is subtracted.
        """
        slots = range(len(self.kernel.slots) // experts * experts)
        self.kernel.prepare([[(slot, tokens) for slot in slots[at : at + experts]] for at in slots[::experts]])
        entries = experts * -(-tokens // MOST_TOKENS)
        launch = self.bench.captured(self.kernel.run(entries, tokens))
        first = partial(self.bench.launch, launch)
        together = computing(self.bench, self.dense.behind(first, self.layer, 1, POSITIONS), effort)
        dense = self._dense_ns(effort)
        return Sample(tuple(max(0.0, time - dense) for time in together.raw))

    def _dense_ns(self, effort: Effort) -> float:
        if effort not in self.dense_ns:
            self.dense_ns[effort] = self.dense.before(self.layer, 1, POSITIONS, effort).median
        return self.dense_ns[effort]


class PackedExperts:
    """Several experts in torch's own int4 layout (q4_0's bits: a scale and a zero for 64 weights), one launch each."""

    def __init__(self, shape: ModelShape, bench: Bench) -> None:
        self.bench, self.kernel = bench, layer_kernels.PackedKernel(shape, bench.device)
        places = range(buffers(shape.expert_bytes("q4_0"), bench))
        self.weights = [made_up(shape.expert_parameters, "q4_0", bench.device) for _ in places]

    def sample(self, tokens: int, effort: Effort) -> Sample:
        """Time of one expert on `tokens` tokens."""
        runs = [self.kernel.bind(weights, tokens)[0] for weights in self.weights]
        return computing(self.bench, [self.bench.captured(run) for run in runs], effort)


def made_up(parameters: int, held: Format, device: torch.device, seed: int | None = None) -> Tensor:
    """Random bytes as an expert's weights, [expert_bytes]; zeros would run faster."""
    generator = torch.Generator(device)
    generator.seed() if seed is None else generator.manual_seed(seed)
    if not is_compressed(held):
        weights = torch.randn(parameters, device=device, generator=generator) * layer_kernels.SCALE
        return weights.to(layer_kernels.DTYPES[held]).view(torch.uint8)  # type: ignore[index]  # not compressed
    bits = 8 if held == "int8" else 4
    size, data = bytes_of(parameters, held), -(-parameters * bits // 8)
    packed = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device, generator=generator)
    scales = packed[-(-data // 2) * 2 : size // 2 * 2].view(torch.float16 if is_expandable(held) else torch.bfloat16)
    scales.fill_(layer_kernels.SCALE / (1 << bits - 1))
    return packed


def expansion(expanded: int, held: Format, bench: Bench, effort: Effort) -> Sample:
    """Time to expand to `expanded` bytes, from several alternating places."""
    parameters = expanded // layer_kernels.DTYPES["fp16"].itemsize // GROUP * GROUP
    places = range(buffers(expanded, bench))
    packed = [made_up(parameters, held, bench.device) for _ in places]
    return computing(bench, [bench.captured(_expanding(part, held, parameters, expanded)) for part in packed], effort)


def _expanding(packed: Tensor, held: Format, parameters: int, expanded: int) -> layer_kernels.Run:
    """Run that expands into a separate buffer, as into a slot."""
    out = torch.empty(expanded, dtype=torch.uint8, device=packed.device)
    return lambda: layer_kernels.expand(packed, held, parameters, out)


class DenseParts:
    """Dense parts of a shape in one phase, with enough copies of the weights that no cache holds them."""

    def __init__(self, shape: ModelShape, phase: Phase, computed: ComputeFormat, bench: Bench) -> None:
        self.shape, self.phase, self.computed, self.bench = shape, phase, computed, bench

    @cached_property
    def stands(self) -> list[layer_kernels.Stand]:
        """Copies of the weights; the smallest part determines their number."""
        shape, phase = self.shape, self.phase
        layers = range(shape.stack(phase).moe_layers)
        least = min([shape.head_parameters, *(shape.dense_parameters(phase, layer) for layer in layers)])
        places = buffers(least * layer_kernels.WIDTH[self.computed], self.bench)
        return [layer_kernels.Stand(shape, phase, self.computed, self.bench.device) for _ in range(places)]

    def before(self, layer: int, tokens: int, positions: int, effort: Effort) -> Sample:
        """Time of everything up to the router's result of a MoE layer, as a run meets it: behind a token's experts.

        The time of the experts alone is subtracted.
        """
        experts = self.shape.experts.top_k * computing(self.bench, self._experts, effort).median
        together = computing(self.bench, self.behind(self.token, layer, tokens, positions), effort)
        return Sample(tuple(max(0.0, time - experts) for time in together.raw))

    @cached_property
    def token(self) -> layer_kernels.Run:
        """Launches of the experts of one token in the compute format."""
        turn, number = in_turn(self._experts), self.shape.experts.top_k

        def some() -> None:
            for _ in range(number):
                self.bench.launch(turn)

        return some

    @cached_property
    def _experts(self) -> list[layer_kernels.Run]:
        return Experts(self.shape, self.computed, self.bench).launches(1)

    def behind(self, first: layer_kernels.Run, layer: int, tokens: int, positions: int) -> list[layer_kernels.Run]:
        """Launches of `first`, then of everything up to a router's result.

        The layers of the same kind take turns, and if their weights would stay in the device's last cache, copies too.
        """

        def launch(run: layer_kernels.Run) -> layer_kernels.Run:
            def both() -> None:
                first()
                run()

            return both

        runs = (stand.before(other, tokens, positions)[0] for stand, other in self._places(layer))
        return [launch(self.bench.captured(run)) for run in runs]

    def _places(self, layer: int) -> list[tuple[layer_kernels.Stand, int]]:
        """Weights of the layers of a layer's kind."""
        shape, phase = self.shape, self.phase
        size = shape.dense_parameters(phase, layer)
        layers = range(shape.stack(phase).moe_layers)
        alike = [other for other in layers if shape.dense_parameters(phase, other) == size][:MOST_LAYERS]
        stands = -(-buffers(size * layer_kernels.WIDTH[self.computed], self.bench) // len(alike))
        return [(stand, other) for stand in self.stands[:stands] for other in alike]

    def head(self, tokens: int, effort: Effort) -> Sample:
        """Time of everything after the last MoE layer."""
        return self._sample([stand.head(tokens) for stand in self.stands], effort)

    def router(self, tokens: int, effort: Effort) -> Sample:
        """Time of one router, from several in one graph."""
        several = self._sample([_repeated(stand.routing(tokens)) for stand in self.stands], effort)
        return Sample(tuple(time / ROUTERS for time in several.raw))

    def layer(self, context: int, effort: Effort) -> Sample:
        """Time of one layer's attentions and dense feed-forward part on one token."""
        return self._sample([stand.dense_layer(1, context) for stand in self.stands], effort)

    @property
    def layer_parameters(self) -> int:
        """Weights of `layer`; if the shape has no dense layers, the feed-forward part is as wide as the model."""
        width = self.shape.stack(self.phase).dense_d_ff or self.shape.d_model
        return self.shape.attention_parameters(self.phase) + self.shape.feed_forward_parameters(width)

    def _sample(self, runs: list[layer_kernels.Run], effort: Effort) -> Sample:
        return computing(self.bench, [self.bench.captured(run) for run in runs], effort)


def _repeated(run: layer_kernels.Run) -> layer_kernels.Run:
    def several() -> None:
        for _ in range(ROUTERS):
            run()

    return several
