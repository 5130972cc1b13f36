"""Miss rules by name: what a demanded expert gets that is in no slot. The CPU may compute it, from its weights in host
memory.

Rules that weigh a copy against the CPU need times of one expert; `filled` adds those that a policy leaves open.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from specmoe.errors import InputError, hint
from specmoe.sim.decide import miss


class Cpu(miss.Miss):
    """The CPU computes every miss and none is loaded."""

    source = "llama.cpp, --n-cpu-moe (pull request 15077)"
    loads = False

    def choose(self, misses: miss.Misses) -> list[int]:
        """The CPU for all."""
        return [miss.COMPUTE] * len(misses.keys)


class CpuAndLoad(miss.Miss):
    """The CPU computes every miss, which is also loaded for later events."""

    source = "caches in forks of llama.cpp, e.g. pull request 24524"
    loads = False

    def choose(self, misses: miss.Misses) -> list[int]:
        """Both for all."""
        return [miss.COMPUTE_AND_LOAD] * len(misses.keys)


class CpuBelow(miss.Miss):
    """The CPU computes experts with fewer than `tokens` tokens; others are loaded."""

    source = "Fiddler (Kamahori et al. 2024), which takes 10 tokens"
    argument = "tokens"

    def __init__(self, most: int, tokens: float = 10) -> None:
        super().__init__(most)
        self.tokens = tokens

    def choose(self, misses: miss.Misses) -> list[int]:
        """By tokens."""
        return [miss.COMPUTE if count < self.tokens else miss.LOAD for count in misses.tokens]


class CpuIfFaster(CpuBelow):
    """The CPU computes experts for which it takes less time than a copy; others are loaded."""

    source = "what runtimes do that compare one expert on the CPU with its copy"
    argument = ""

    def __init__(
        self, most: int, copy_ns: float | None = None, cpu_ns: float | None = None, cpu_token_ns: float | None = None
    ) -> None:
        copy, cpu = miss.required("cpu-if-faster", copy_ns=copy_ns, cpu_ns=cpu_ns)
        super().__init__(most, faster_below(copy, cpu, cpu_token_ns or 0))


class Split(miss.Miss):
    """Of n misses, those with the most tokens are loaded, as many as entry n of `table` says; the CPU computes others.

    The table begins with one miss and is text, e.g. `0/1/1/2`. Beyond its end the share of the last entry holds.
    """

    source = "a table"

    def __init__(self, most: int, table: str | int | Sequence[int] | None = None) -> None:
        super().__init__(most)
        if table is None:
            raise InputError("miss split: miss.table expected: loads of 1, 2, ... misses, e.g. miss.table=0/1/1/2")
        self._table = loads_from(str(table)) if isinstance(table, str | int) else list(table)

    def loads_of(self, misses: int) -> int:
        """Number of misses that are loaded."""
        last = len(self._table)
        return self._table[misses - 1] if misses <= last else misses * self._table[-1] // last

    def choose(self, misses: miss.Misses) -> list[int]:
        """Ties are loaded in the order of their keys."""
        falling = sorted(range(len(misses.keys)), key=lambda place: (-misses.tokens[place], misses.keys[place]))
        loaded = set(falling[: self.loads_of(len(falling))])
        return [miss.LOAD if place in loaded else miss.COMPUTE for place in range(len(falling))]


class LawSplit(Split):
    """Of n misses, as many are loaded as gives the shortest time by a law of copies, CPU and host memory.

    Loading F of them takes the largest of three times: F copies and `copy_wait_ns`; `handoff_ns` and n - F experts on
    the CPU; and n experts at the rate of both together. Of equal times the one with the fewest loads is taken.
    """

    source = "law of copies and CPU experts side by side, moe-speed-of-light"

    def __init__(
        self,
        most: int,
        copy_ns: float | None = None,
        cpu_ns: float | None = None,
        both_ns: float | None = None,
        copy_wait_ns: float = 48_000,
        handoff_ns: float = 20_000,
    ) -> None:
        copy, cpu, both = miss.required("law-split", copy_ns=copy_ns, cpu_ns=cpu_ns, both_ns=both_ns)
        super().__init__(most, law_table(most, copy, cpu, both, copy_wait_ns, handoff_ns))


class FreeToken(Split):
    """Of M misses, F are loaded that minimise max(F (1 - f), (M - F) f), f being the link's share of both rates.

    That is only so where the CPU is more than `ahead` times as fast as the link; otherwise all are loaded. Of equal
    times the one with the fewest loads is taken.
    """

    source = "FreeToken at 0ab982f1"

    def __init__(
        self, most: int, copy_ns: float | None = None, cpu_ns: float | None = None, ahead: float = 2.0
    ) -> None:
        copy, cpu = miss.required("freetoken", copy_ns=copy_ns, cpu_ns=cpu_ns)
        super().__init__(most, freetoken_table(most, copy, cpu, ahead))


class AdmitAfter(miss.Miss):
    """The CPU computes every miss; at an expert's `uses`-th one it is loaded for later, and its count begins anew."""

    source = "caches in forks of llama.cpp, e.g. pull request 26563"
    argument = "uses"
    loads = False

    def __init__(self, most: int, uses: float = 2) -> None:
        super().__init__(most)
        self.uses = uses
        self._counts: dict[int, int] = {}

    def choose(self, misses: miss.Misses) -> list[int]:
        """By the misses of each expert so far."""
        return [self._counted(key) for key in misses.keys]

    def _counted(self, key: int) -> int:
        count = self._counts.pop(key, 0) + 1
        if count >= self.uses:
            return miss.COMPUTE_AND_LOAD
        self._counts[key] = count
        return miss.COMPUTE


class Greedy(miss.Miss):
    """GPU and CPU share the misses: the GPU begins with those of the most tokens, the CPU with those of the fewest.

    The next expert goes to whichever would end it earlier, by the given times: the GPU, which computes what is
    resident first and for which a miss is copied, one after the other, or the CPU. Equal times go to the GPU.
    """

    source = "HybriMoE (Zhong et al. 2025) at 508a85b9, whose CPU may compute resident experts as well"

    def __init__(
        self,
        most: int,
        copy_ns: float | None = None,
        cpu_ns: float | None = None,
        gpu_ns: float | None = None,
        cpu_token_ns: float | None = None,
    ) -> None:
        super().__init__(most)
        self.times = (*miss.required("greedy", copy_ns=copy_ns, cpu_ns=cpu_ns, gpu_ns=gpu_ns), cpu_token_ns or 0.0)

    def choose(self, misses: miss.Misses) -> list[int]:
        """Both ends of the order of tokens; ties in the order of keys."""
        falling = sorted(range(len(misses.keys)), key=lambda place: (-misses.tokens[place], misses.keys[place]))
        choices, first, last = [miss.COMPUTE] * len(falling), 0, len(falling) - 1
        copy_ns, cpu_ns, gpu_ns, cpu_token_ns = self.times
        link, gpu, cpu = 0.0, gpu_ns * len(misses.hits), 0.0
        while first <= last:
            landed = link + copy_ns
            on_gpu = max(gpu, landed) + gpu_ns
            on_cpu = cpu + max(cpu_ns, cpu_token_ns * misses.tokens[falling[last]])
            if on_gpu <= on_cpu:
                choices[falling[first]], link, gpu, first = miss.LOAD, landed, on_gpu, first + 1
            else:
                cpu, last = on_cpu, last - 1
        return choices


class Hobbit(miss.Miss):
    """Approximate: a miss is loaded, loaded with few bits, or dropped, by the weight of the experts before it.

    The weights of a token's experts with more weight are summed: up to `t1` the expert is loaded, up to `t2` a copy of
    few bits is, and beyond it is dropped. Such a copy is given up after its event.
    """

    source = "HOBBIT (Tang et al. 2024), which also keeps copies of few bits in a cache of their own"
    on_cpu = False
    weighs = True

    def __init__(self, most: int, t1: float = 0.6, t2: float = 0.9) -> None:
        super().__init__(most)
        if not t1 <= t2:
            raise InputError(f"miss hobbit: miss.t1={t1} and miss.t2={t2}: t1 of at most t2 expected")
        self._t1, self._t2 = t1, t2

    def choose(self, misses: miss.Misses) -> list[int]:
        """By the weight before each."""
        return [
            miss.LOAD if sum_ <= self._t1 else miss.LOAD_LOW if sum_ <= self._t2 else miss.DROP
            for sum_ in misses.before
        ]


class Defer(miss.Miss):
    """Approximate: the CPU computes every miss, and the result of a token's last `experts` is joined a layer later.

    The last are those with the least weight. An expert that another token needs sooner is not deferred.
    """

    source = "KTransformers at 95009ea6, expert deferral"
    argument = "experts"
    loads = False
    weighs = True

    def __init__(self, most: int, experts: float = 1) -> None:
        super().__init__(most)
        self._experts = experts

    def choose(self, misses: miss.Misses) -> list[int]:
        """By the number of experts after each."""
        return [miss.DEFER if count < self._experts else miss.COMPUTE for count in misses.after]


ALWAYS_LOAD = "load"
MISSES: dict[str, type[miss.Miss]] = {
    "cpu": Cpu,
    "cpu-and-load": CpuAndLoad,
    "cpu-below": CpuBelow,
    "cpu-if-faster": CpuIfFaster,
    "split": Split,
    "law-split": LawSplit,
    "freetoken": FreeToken,
    "admit-after": AdmitAfter,
    "greedy": Greedy,
    "hobbit": Hobbit,
    "defer": Defer,
}


def keywords_of(name: str) -> list[str]:
    """Names of the parameters of a miss rule."""
    return _keywords(MISSES[name])[1:]


@cache
def _keywords(rule: type[miss.Miss]) -> list[str]:
    return list(inspect.signature(rule).parameters)


def make_miss(text: str, parameters: dict[str, Any], most: int) -> miss.Miss | None:
    """The rule of a name, or of a name and its number (`cpu-below:10`); None where every miss is loaded.

    Raises InputError for an unknown name or parameter and for missing rates.
    """
    name, number = named(text)
    if name == ALWAYS_LOAD:
        if number or parameters:
            raise InputError(f"miss {text!r}: load has no number and no parameter: load expected")
        return None
    if name not in MISSES:
        raise InputError(f"miss {text!r}: {hint(name, [ALWAYS_LOAD, *MISSES])}")
    known, argument = keywords_of(name), MISSES[name].argument
    if number and not argument:
        raise InputError(f"miss {text!r}: {name} takes no number: {name} expected")
    unknown = [keyword for keyword in parameters if keyword not in known]
    if unknown:
        has = hint(unknown[0], known) if known else "it has none"
        raise InputError(f"miss {name}: no parameter {unknown[0]!r}: {has}")
    given = {argument: whole(f"miss {text!r}", number)} if number else {}
    return MISSES[name](most, **{**parameters, **given})


def named(text: str) -> tuple[str, str]:
    """A name and the number behind its colon, empty if there is none."""
    name, _, number = str(text).partition(":")
    return name, number


def whole(where: str, number: str) -> int:
    """A whole number, 0 or more; raises InputError."""
    if not number.isdecimal() or int(number) > miss.EVERY:
        raise InputError(f"{where}: a whole number from 0 to {miss.EVERY:,} expected behind the colon")
    return int(number)


def filled(name: str, parameters: dict[str, Any], rates: miss.Rates) -> dict[str, Any]:
    """The parameters of a miss rule, with the times that it takes and that were not given."""
    rule = named(name)[0]
    open_ones = [] if rule not in MISSES else [key for key in keywords_of(rule) if key in miss.Rates._fields]
    return {**{keyword: getattr(rates, keyword) for keyword in open_ones}, **parameters}


def loads_from(text: str) -> list[int]:
    """The table of `Split` from its text; raises InputError."""
    parts = text.split("/")
    if not all(part.isdecimal() and int(part) <= place for place, part in enumerate(parts, 1)):
        raise InputError(f"miss.table={text}: for 1, 2, ... misses the number to load, e.g. 0/1/1/2, expected")
    return [int(part) for part in parts]


def faster_below(copy_ns: float, cpu_ns: float, cpu_token_ns: float) -> int:
    """Number of tokens below which the CPU is faster than a copy."""
    if cpu_ns >= copy_ns:
        return 0
    return miss.EVERY if cpu_token_ns * miss.EVERY <= copy_ns else -int(-copy_ns // cpu_token_ns)


def law_table(
    most: int, copy_ns: float, cpu_ns: float, both_ns: float, copy_wait_ns: float, handoff_ns: float
) -> list[int]:
    """Loads of 1 to `most` misses by the law of `LawSplit`."""

    def time(misses: int, loads: int) -> float:
        on_cpu = handoff_ns + (misses - loads) * cpu_ns
        return max(loads * copy_ns + copy_wait_ns, on_cpu, misses * both_ns)

    return _best(most, time)


def freetoken_table(most: int, copy_ns: float, cpu_ns: float, ahead: float) -> list[int]:
    """Loads of 1 to `most` misses by the rule of `FreeToken`."""
    if copy_ns <= ahead * cpu_ns:
        return list(range(1, most + 1))
    share = cpu_ns / (copy_ns + cpu_ns)  # of the link's rate in both
    return _best(most, lambda misses, loads: max(loads * (1 - share), (misses - loads) * share))


def _best(most: int, time: Callable[[int, int], float]) -> list[int]:
    """The fewest loads of the shortest time, of 1 to `most` misses."""
    return [min(range(n + 1), key=lambda loads, n=n: time(n, loads)) for n in range(1, most + 1)]  # type: ignore[misc]
