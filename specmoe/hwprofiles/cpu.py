"""How long an expert takes on the CPU: measured curves of its size, or else a roofline.

All threads compute one expert together:

    call + max(bytes / min(read rate of the memory, rate of the format's kernel), operations / arithmetic)

    experts = CpuExperts(load_profile("mine.toml"), size_of(load_shape("gpt-oss-20b")), "mxfp4", threads=8)
    experts.expert_ns(tokens=1)

A format whose kernel nobody measured reads at the memory's rate, and computes at the arithmetic of the slowest format
that was measured; `warnings` says so, and `evidence` is extrapolated. Rates at other numbers of threads are
interpolated between measured numbers of threads, from none at no thread on; arithmetic is proportional to threads.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from specmoe.errors import InputError
from specmoe.hwprofiles.curves import CpuCurve, Interpolated, extrapolation
from specmoe.hwprofiles.kernels import Size
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.quantity import SLOWED_BY_COPY, SLOWS_COPY, Evidence, weakest
from specmoe.hwprofiles.shape import FORMATS, Format, bytes_of

PER_THREADS = 10**9  # bytes that the points `by_threads` read


@dataclass(frozen=True)
class CpuExperts:
    """Experts of a size in format `held` in host memory, computed by some of the profile's threads (default: all).

    `most_tokens` is the most that one expert serves. Raises InputError for a profile without a CPU, and for threads
    that it does not have.
    """

    profile: HardwareProfile
    size: Size
    held: Format
    threads: int | None = None
    most_tokens: int = 1

    def __post_init__(self) -> None:
        name = self.profile.name
        if "cpu.threads" not in self.profile:
            raise InputError(
                f"profile {name}: cpu: not measured: its numbers, or a --host that has them (specmoe profile hosts), "
                "expected where the CPU computes experts"
            )
        most = int(self.profile["cpu.threads"])
        if self.threads is not None and not 1 <= self.threads <= most:
            raise InputError(f"--threads {self.threads}: the CPU of profile {name} has {most}: 1 to {most} expected")
        self._rate("read")

    @property
    def computing(self) -> int:
        """Number of threads that compute."""
        return int(self.profile["cpu.threads"]) if self.threads is None else self.threads

    def expert_ns(self, tokens: int) -> int:
        """Time of one expert with `tokens` tokens, ns, while no copy is under way; 0 for no token."""
        if not tokens:
            return 0
        if self._curves:
            return max(1, round(1e9 / self._at({count: 1e9 / curve(tokens) for count, curve in self._curves.items()})))
        reading = bytes_of(self.size.weights, self.held) / self._reads
        computing = 2 * self.size.weights * tokens / self._computes if self._arithmetic else 0.0
        return self._call + max(1, round(max(reading, computing) * 1e9))

    @property
    def slowed_by_copy(self) -> float:
        """Share by which an expert takes longer while a copy from the host's memory is under way; 0 if unknown."""
        return self._share(SLOWED_BY_COPY)

    @property
    def slows_copy(self) -> float:
        """Share by which a copy takes longer while the CPU computes an expert; 0 if unknown."""
        return self._share(SLOWS_COPY)

    @property
    def uses(self) -> tuple[str, ...]:
        """Dotted names of the profile's quantities and points behind the costs; curves have no names."""
        names = ["cpu.threads", "cpu.start", "cpu.join", SLOWED_BY_COPY, SLOWS_COPY]
        if not self._curves:
            kernel = (self._rate_name(self.held), f"cpu.{self.held}.by_threads")
            names += [self._rate_name("read"), "cpu.read.by_threads", *kernel, "cpu.call"]
            names += [self._arithmetic] if self._arithmetic else []
        return tuple(name for name in names if name in self.profile or name in self.profile.points)

    @property
    def evidence(self) -> Evidence:
        """Weakest evidence among the numbers behind the costs."""
        curves = tuple(curve.points.evidence for curve in self._measured)
        left: tuple[Evidence, ...] = ("extrapolated",) if self._extrapolations else ()
        return weakest((self.profile.evidence(self.uses), *curves, *left))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each number that the profile lacks, or that is used outside its range."""
        unknown = [
            f"{self.profile.name}: {name}: not measured: taken as 0"
            for name in (SLOWED_BY_COPY, SLOWS_COPY)
            if name not in self.profile
        ]
        return (*self._extrapolations, *unknown)

    @cached_property
    def _extrapolations(self) -> tuple[str, ...]:
        name, lines = self.profile.name, list[str | None]()
        if self._curves:
            curves = self._curves.values()
            lines += [extrapolation(curve, self.most_tokens, f"{name}: cpu_curve", "token") for curve in curves]
        elif self._rate(self.held) is None:
            lines.append(f"{name}: cpu.{self.held}: no kernel was measured: it reads at the memory's rate")
        if not self._curves and self._arithmetic != f"cpu.{self.held}.arithmetic":
            known = f"as {self._arithmetic}" if self._arithmetic else "taken as 0 time"
            lines.append(f"{name}: cpu.{self.held}.arithmetic: not measured: {known}")
        return tuple(dict.fromkeys(line for line in lines if line))

    @property
    def _call(self) -> int:
        return self.profile.ns("cpu.call") if "cpu.call" in self.profile else 0

    @cached_property
    def _reads(self) -> float:
        """Bytes a second."""
        memory, kernel = self._rate("read"), self._rate(self.held)
        return min(rate for rate in (memory, kernel) if rate is not None)

    @cached_property
    def _arithmetic(self) -> str | None:
        """Name of the arithmetic rate; None if the profile has none."""
        known = [name for held in FORMATS if (name := f"cpu.{held}.arithmetic") in self.profile]
        own = f"cpu.{self.held}.arithmetic"
        return own if own in known else min(known, key=self.profile.__getitem__, default=None)

    @property
    def _computes(self) -> float:
        """Operations a second."""
        return self.profile[str(self._arithmetic)] * self.computing / self.profile["cpu.threads"]

    def _rate(self, group: str) -> float | None:
        """Bytes a second at the threads; None if unknown. Raises InputError if known for all threads only."""
        points = self.profile.points.get(f"cpu.{group}.by_threads")
        if points is not None:
            rates = (PER_THREADS / time * 1e9 for time in points.times_ns)
            return self._at(dict(zip(points.amounts, rates, strict=True)))
        name, most = self._rate_name(group), int(self.profile["cpu.threads"])
        if name not in self.profile:
            return None
        if self.computing != most:
            raise InputError(
                f"--threads {self.computing}: profile {self.profile.name} knows {name} for {most} threads only: "
                f"{most}, or a profile with cpu.{group}.by_threads, expected"
            )
        return self.profile[name]

    def _at(self, rates: Mapping[int, float]) -> float:
        """Rate at the threads, interpolated between measured numbers of threads; beyond them that of the most."""
        counts, known = (0, *sorted(rates)), (0.0, *(rates[count] for count in sorted(rates)))
        right = min(bisect_left(counts, self.computing), len(counts) - 1)
        beyond = min(1.0, (self.computing - counts[right - 1]) / (counts[right] - counts[right - 1]))
        return known[right - 1] + (known[right] - known[right - 1]) * beyond

    @staticmethod
    def _rate_name(group: str) -> str:
        return "cpu.read.bandwidth" if group == "read" else f"cpu.{group}.rate"

    def _share(self, name: str) -> float:
        known = self.profile.quantities.get(name)
        return known.value if known else 0.0

    @cached_property
    def _measured(self) -> Sequence[CpuCurve]:
        mine = (*self.size, self.held)
        known = self.profile.cpu_curves
        return [one for one in known if (one.d_model, one.d_ff, one.gated, one.format) == mine]

    @cached_property
    def _curves(self) -> dict[int, Interpolated]:
        """Curves of the size by number of threads."""
        return {one.threads: Interpolated(one.points.times_ns[0], one.points) for one in self._measured}
