"""What `specmoe generate` does: texts with experts offloaded, beside the resident model's if that is asked for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from specmoe.errors import InputError
from specmoe.hwprofiles import shape as shapes
from specmoe.hwprofiles.model_config import of_fields
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim import budget
from specmoe.sim.config import ASSUMED_RESERVE, Home
from specmoe.sim.decide.placement import Sizes
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.policy import policy as policy_named
from specmoe.sim.stream import online_names, require_network
from specmoe.traces.collect_model import Checkpoint, load_checkpoint, pick_device
from specmoe.units import shown
from specmoe.validate.experts import round_experts
from specmoe.validate.live import PHASES, Offloaded
from specmoe.validate.record import Comparison, Row, Run, row_of, speed, verdict_of
from specmoe.validate.rehearsal import LEAST_TOKENS, WARM_UP, Cell, Rehearsal
from specmoe.validate.slots import enough_vram
from specmoe.validate.writing import Ask, Written, write

FORMATS: tuple[shapes.Format, ...] = ("fp16", "bf16", "fp32", "int8", "int4")  # of experts at home
DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
KV: dict[shapes.ComputeFormat, shapes.CacheFormat] = {"fp16": "f16", "bf16": "bf16", "fp32": "f32"}  # of the same cache


class Job(NamedTuple):
    """What to generate: a text by each policy with each number of slots, `rounds` times in turn.

    `vram` instead of slots is all of the VRAM, in bytes. `held` is the format of experts at home; default: fp16 on a
    GPU and fp32 on a CPU. `compare` also generates with every expert resident and foretells the steps; `machine` is the
    profile that has the link (None: it is timed). `timed` keeps when each thing happened, for `write_timeline`. With
    `random_init` weights are drawn. `networks` has those of learned policies, one in `encode/` and one in `decode/`;
    default: those that are bundled with the model.
    """

    model: str
    ask: Ask
    policies: Sequence[str]
    slots: Sequence[int] = ()
    vram: int | None = None
    assumed_reserve: int = ASSUMED_RESERVE
    held: shapes.Format | None = None
    device: str = "cpu"
    compare: bool = False
    timed: bool = False
    rounds: int = 1
    machine: HardwareProfile | None = None
    random_init: bool = False
    networks: Path | None = None

    @property
    def chosen(self) -> list[Policy]:
        """The policies, those with a trained network with the one that is asked for."""
        plain = list(map(policy_named, self.policies))
        where = {} if self.networks is None else {"predictor.checkpoint": str(self.networks)}
        return [policy_named(one.name, where) if one.predictor.startswith("learned-") else one for one in plain]

    @property
    def format(self) -> shapes.Format:
        """Format of experts at home."""
        return self.held or ("fp16" if pick_device(self.device).type == "cuda" else "fp32")

    def options(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "model": self.model,
            "weights": "random" if self.random_init else "the checkpoint's",
            "prompt": self.ask.prompt,
            "tokens": self.ask.tokens,
            "no_repeat": self.ask.no_repeat,
            "rounds": self.rounds,
            "vram": self.vram,
            "format": self.format,
            "link": self.machine.name if self.machine else "timed",
            "warm_up_steps": WARM_UP,
        }


class LiveRoom(budget.Room):
    """VRAM of a live model: beside a slot is room for the compressed expert that arrives for it."""

    @property
    def sizes(self) -> Sizes:
        """Size of a slot of each MoE layer."""
        plain, arriving = super().sizes, self.shape.expert_bytes(self.home.format) if self.home.format else 0
        return plain._replace(layers=tuple(size + arriving for size in plain.layers))


class _Session:
    """Texts of all cells, round by round, and the resident model's."""

    def __init__(self, job: Job) -> None:
        self.target = pick_device(job.device)
        self.job, self.ask = job, job.ask._replace(on_text=None)
        self.checkpoint = self._loaded()
        policies = job.chosen
        for policy, phase in product(policies, PHASES):
            require_network(policy, self.checkpoint.name, phase)
        self.resident = self._resident() if job.compare else None
        self.budget, slots = None, job.slots
        if job.vram is not None:
            held = KV[shapes.compute_format(job.format)]
            self.room = budget.Ask(job.vram, self._context(), kv_format=held, assumed_reserve=job.assumed_reserve)
            self.budget = fitted(room_of(self.checkpoint, self.job.format), self.room)
            slots = [self.budget.slots]
        self.runs = [Run(Cell(policy, number), [], []) for policy in policies for number in slots]
        self.checkpoint.model.to("cpu")
        self.model = Offloaded(self.checkpoint, str(self.target), self.job.format)
        self.costs: list[dict[str, Any]] = []  # of each rehearsal

    def texts(self) -> Iterator[tuple[int, Run]]:
        """Write all texts, in another order in each round, two by two with the rehearsal of both between them.

        After each, its round and its cell.
        """
        foretells, first = self.resident is not None and len(self.resident.ids) >= LEAST_TOKENS, self.runs[0]
        rehearsal = Rehearsal(self.model, self.ask, self.job.machine)
        if self.resident:  # a process's first texts take longer, and neither foretell nor count
            self.model.generate(self._short(), *first.cell)
        for number in range(self.job.rounds):
            for pair in _pairs(self.runs, number):
                for place, run in enumerate(pair):
                    alone = self.resident is None and number == 0 and run is first
                    traced, ask = alone and self.job.timed, self.job.ask if alone else self.ask
                    run.texts.append(self.model.generate(ask, *run.cell, traced=traced))
                    if run.texts[-1].interrupted:
                        raise KeyboardInterrupt
                    if foretells and place == 0:
                        self._rehearse(rehearsal, number, pair)
                    yield number, run

    def _rehearse(self, rehearsal: Rehearsal, number: int, pair: Sequence[Run]) -> None:
        """Foretell two cells whose policies need the same look-ahead."""
        seen = rehearsal.of([run.cell for run in pair], pair[0].depth)
        for place, run in enumerate(pair):
            run.foretold.append((seen, place))
        names = [f"{run.cell.policy.name} {run.cell.slots}" for run in pair]
        decide = dict(zip(names, seen.decide_ns, strict=True))
        self.costs.append({"round": number, "depth": pair[0].depth, **seen.costs._asdict(), "decide": decide})

    def compared(self) -> Comparison:
        """What there is so far; there must be a text."""
        written = [run for run in self.runs if run.texts]
        rows, resident = [row_of(run, self.resident) for run in written], self.resident
        so_far = Comparison(written[0].texts[0], rows, list(self._notes(max(row.peak_bytes for row in rows))))
        if resident is None:
            return so_far
        text = self.checkpoint.tokenizer.decode(resident.ids, skip_special_tokens=True)
        row = Row("all resident", None, text, *speed(resident.ids, resident.seconds), peak_bytes=resident.peak_bytes)
        whole = [(run.cell.policy.name, one.ids) for run in written for one in run.texts if not one.interrupted]
        others = [(name, ids) for name, ids in whole if ids != resident.ids]
        name, ids = others[0] if others else ("", resident.ids)
        verdict = f"{name}: {verdict_of(ids, resident.ids)}" if others else verdict_of(ids, ids)
        if not whole:
            verdict = "No text was finished."
        return so_far._replace(rows=[*rows, row], costs=self.costs, verdict=verdict, differs=bool(others))

    def _notes(self, peak: int) -> Iterator[str]:
        """The budget, and whether layers are computed in parts."""
        if self.budget:
            yield budget.words(self.budget, self.room)
        if self.budget and peak:
            yield peak_line(peak, self.budget.vram_bytes)
        slots, chosen = min(run.cell.slots for run in self.runs), self.model.meta(PHASES[1], 0).top_k
        if slots < chosen:
            yield f"{slots} slots are fewer than the {chosen} experts of a token: they are computed in waves."

    def _context(self) -> int:
        """Tokens of the prompt and of the text."""
        return len(self.checkpoint.tokenizer(self.ask.prompt).input_ids) + self.ask.tokens

    def _short(self) -> Ask:
        """A text of few tokens, which nobody sees."""
        return self.ask._replace(tokens=min(self.ask.tokens, LEAST_TOKENS))

    def _resident(self) -> Written:
        """The text of the model as it is, its experts rounded as those at home."""
        checkpoint = self.checkpoint
        if shapes.is_expandable(self.job.format):
            checkpoint = self._loaded()  # homes round the weights themselves
            for phase in PHASES[not checkpoint.is_encoder_decoder :]:
                for layer in checkpoint.adapter.layers(checkpoint.model, phase):
                    round_experts(layer.moe.experts, self.job.format)
        with enough_vram():
            checkpoint.model.to(self.target)
            first = write(checkpoint, self._short())  # a process's first text takes longer, so it does not count
            text = first if first.interrupted else write(checkpoint, self.job.ask)
        if text.interrupted:
            raise KeyboardInterrupt
        return text

    def _loaded(self) -> Checkpoint:
        """The checkpoint in host memory, whose experts are computed one by one, as transformers' plain code does."""
        where = str(self.target) if self.job.random_init else "cpu"  # large models are drawn by a GPU only in time
        checkpoint = load_checkpoint(
            self.job.model,
            device=where,
            dtype=DTYPES[shapes.compute_format(self.job.format)],
            capacity=None,
            random_init=self.job.random_init,
            seed=0,
            draw_on=where,
        )
        checkpoint.model.config._experts_implementation = "eager"
        return checkpoint


def generated(job: Job, on_text: Callable[[Comparison, str], object] | None = None) -> Comparison:
    """Load a model into host memory and generate with its experts offloaded; to compare, also with all resident.

    `on_text` is called after each text, with what there is and a line about it. An interrupt ends it with what there
    is. Raises InputError for no token, no slot, no policy, slots and VRAM together, and a policy that cannot be asked
    while a model runs.
    """
    if bool(job.slots) == (job.vram is not None):
        raise InputError("either --slots or --vram expected, and not both")
    numbers = {"--max-new-tokens": job.ask.tokens, "--policy": len(job.policies), "--rounds": job.rounds}
    for what, number in (numbers | {"--slots": min(job.slots, default=1)}).items():
        if number < 1:
            raise InputError(f"{what}: at least one expected")
    names = online_names(loads_only=True)
    for one in map(policy_named, job.policies):
        if one.name not in names:
            raise InputError(f"--policy {one.name}: not asked while a model runs: one of {', '.join(names)} expected")
    session, interrupted = _Session(job), True
    with suppress(KeyboardInterrupt):
        for number, run in session.texts():
            if on_text:
                on_text(session.compared(), _line(job, number, run))
        interrupted = False
    if not any(run.texts for run in session.runs):
        raise KeyboardInterrupt
    result = session.compared()._replace(interrupted=interrupted)
    if job.timed and job.compare and not interrupted:
        result = result._replace(made=session.model.generate(session.ask, *session.runs[0].cell, traced=True))
    return result


def room_of(checkpoint: Checkpoint, held: shapes.Format) -> LiveRoom:
    """What a checkpoint needs of VRAM, with its experts held in a format at home."""
    shape = of_fields(checkpoint.model.config.to_dict(), checkpoint.name)
    return LiveRoom(shape, shapes.compute_format(held), Home(format=held if shapes.is_expandable(held) else None))


def fitted(room: LiveRoom, ask: budget.Ask) -> budget.Budget:
    """The budget of VRAM; raises InputError if no slot is left."""
    if not budget.fitting(room, ask):
        least = -(-budget.least_vram(room, ask) * 1000 // budget.GIB) / 1000
        raise InputError(f"--vram: no slot is left beside {ask.context} tokens: at least {least:.3f}GiB expected")
    return budget.budget(room, ask)


def peak_line(peak: int, vram: int) -> str:
    """Whether the most bytes that the allocator gave out are within VRAM."""
    over = f"{(peak - vram) / 2**20:,.1f} MiB more than --vram" if peak > vram else "within --vram"
    return f"The GPU's allocator gave out at most {' '.join(shown(peak, 'B'))}: {over}."


def _line(job: Job, number: int, run: Run) -> str:
    """One line about a text that was written."""
    text = run.texts[-1]
    turn = f", round {number + 1} of {job.rounds}" if job.rounds > 1 else ""
    return f"{run.cell.policy.name}, {run.cell.slots} slots{turn}: {len(text.ids) / text.seconds:.1f} tokens/s"


def _pairs(runs: Sequence[Run], number: int) -> Iterator[Sequence[Run]]:
    """Two by two, runs of the same look-ahead, beginning with another one in each round."""
    for depth in sorted({run.depth for run in runs}):
        alike = [run for run in runs if run.depth == depth]
        first = number % len(alike)
        turned = alike[first:] + alike[:first]
        yield from (turned[place : place + 2] for place in range(0, len(turned), 2))
