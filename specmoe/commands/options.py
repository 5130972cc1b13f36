"""Options that commands share, with their help and completion, and what their values mean."""

from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specmoe.errors import InputError, hint

if TYPE_CHECKING:
    from specmoe.hwprofiles.kernels import Style as KernelStyle
    from specmoe.sim.config import Home

LINKS, TIERS, HOST_SETS = ("fifo", "priority", "chunked"), ("host-pinned", "host-pageable", "nvme"), ("graph", "eager")


def home_of(tier: str, held: str | None, compressed_slots: int) -> "Home":
    """Where experts live; raises InputError for an unknown tier and for compressed slots without a format of theirs."""
    from specmoe.sim.config import Home

    if compressed_slots < 0 or (compressed_slots and held is None):
        raise InputError(f"--compressed-slots {compressed_slots}: 0, or more together with --home-format, expected")
    return Home(choice("tier", tier, TIERS), format_named("home-format", held), compressed_slots)


def format_named(option: str, name: str | None) -> Any:
    """A format by its name, and none of none; raises InputError that names the option."""
    from specmoe.hwprofiles.shape import FORMATS

    return None if name is None else choice(option, name, FORMATS)


def parse_bytes(option: str, text: str) -> int:
    """8GiB, 500 MB; raises InputError."""
    from specmoe.units import quantity

    return int(quantity(f"--{option} {text}", option.upper(), text, "B"))


def parse_context(text: str) -> int:
    """Tokens: 4096, or 32k for 32 x 1024; raises InputError."""
    from specmoe.sim.budget import tokens_of

    return tokens_of(f"--context {text}", text)


def room_of(context: str | None, kv_format: str, assumed_reserve: str) -> dict[str, Any]:
    """What VRAM keeps beside weights, by the names of `RunConfig`; raises InputError."""
    from specmoe.hwprofiles.shape import KV_FORMATS

    return {
        "context": None if context is None else parse_context(context),
        "kv_format": choice("kv-format", kv_format, KV_FORMATS),
        "assumed_reserve": parse_bytes("assumed-reserve", assumed_reserve),
    }


def parse_override(pair: str) -> tuple[str, Any]:
    """name=value: text for a profile's number, which has a unit; else a number, true, false, or text.

    Raises InputError.
    """
    from specmoe.hwprofiles.quantity import QUANTITIES
    from specmoe.units import scalar

    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise InputError(f"--set {pair}: name=value expected")
    return name, text if name in QUANTITIES else scalar(text)


def several(texts: list[str] | None) -> list[str]:
    """The values of an option that may be repeated, and may name several with commas; a file's name may have commas."""
    return [part for text in texts or () for part in ([text] if _is_there(text) else text.split(","))]


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # longer than any path
        return False


def choice(name: str, value: str, known: tuple[str, ...]) -> Any:
    """One of the known values; raises InputError."""
    if value not in known:
        raise InputError(f"--{name} {value}: {hint(value, known)}")
    return value


def sources(texts: list[str] | None) -> tuple[str, ...]:
    """Text domains that an option names."""
    from specmoe.traces.store import domains_in

    return domains_in(",".join(texts or ()))


Several = list[str] | None
MORE = " Comma-separated or repeated."
DEVICES = ("auto", "cpu", "cuda")


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A completion of the last of comma-separated values."""

    def complete(incomplete: str) -> list[str]:
        before = incomplete[: incomplete.rfind(",") + 1]
        return [before + name for name in names()]

    return complete


def bundled_traces() -> list[str]:
    """Names of the bundled traces, read without the libraries that open them."""
    root = Path(str(files("specmoe") / "bundled"))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.parquet"))


def _domains() -> list[str]:
    """Text domains of the bundled traces."""
    from specmoe.traces.store import names
    from specmoe.traces.store import open as open_trace

    return sorted({source for name in names() for source in open_trace(name).meta.sources})


def _policies() -> list[str]:
    from specmoe.sim.decide.policy import POLICIES

    return [*POLICIES, "all"]


def _profiles() -> Iterable[str]:
    from specmoe.hwprofiles.catalogue import profile_names

    return profile_names()


def _hosts() -> Iterable[str]:
    from specmoe.hwprofiles.catalogue import host_names

    return host_names()


def _shapes() -> Iterable[str]:
    from specmoe.hwprofiles.catalogue import shape_names

    return shape_names()


def _formats() -> Iterable[str]:
    from specmoe.hwprofiles.shape import FORMATS

    return FORMATS


def _kv_formats() -> Iterable[str]:
    from specmoe.hwprofiles.shape import KV_FORMATS

    return KV_FORMATS


def _styles() -> Iterable[str]:
    from specmoe.hwprofiles.kernels import LAUNCHING, MULTIPLY

    return (*MULTIPLY, *LAUNCHING, *(f"{multiply}/{launch}" for multiply in MULTIPLY for launch in LAUNCHING))


def style_named(name: str | None) -> "KernelStyle | None":
    """A style by its name, and none of none; raises InputError."""
    from specmoe.hwprofiles.kernels import style_of

    return None if name is None else style_of(name)


def _predictors() -> list[str]:
    """Predictors of the policies, since reading the table of predictors loads numpy."""
    from specmoe.sim.decide.policy import POLICIES

    return sorted({policy.predictor for policy in POLICIES.values()})


traces, policies, profiles = completing(bundled_traces), completing(_policies), completing(_profiles)
shapes, formats, predictors = completing(_shapes), completing(_formats), completing(_predictors)
links, tiers, host_sets = (completing(lambda names=names: names) for names in (LINKS, TIERS, HOST_SETS))  # type: ignore[misc]
styles, hosts, kv_formats = completing(_styles), completing(_hosts), completing(_kv_formats)
devices, domains = completing(lambda: DEVICES), completing(_domains)

TRACE = "A bundled trace's name (specmoe traces list) or a trace file."
POLICY = "Policies to compare. all: every policy (specmoe policies)." + MORE
PROFILE = "Machine: a shipped profile's name (specmoe profile list) or a .toml file."
SHAPE = "Model: a shipped shape's name (specmoe shape list) or a .toml file."
TRACES_OWN = " Default: the trace's own model if its shape is shipped, else switch-base-128."
SOURCE = "Text domains to run, whole sequences of them, e.g. fiction,legal. Default: all domains of the trace."
TRAIN_SOURCE = "Text domains that popularity and predictors learn from; all: every one. Default: those of --source."
REPEAT = " Repeat for several values; domains joined by commas run together."
FORMAT = "Format of experts in VRAM: fp32, fp16, bf16, int8 or int4."
OWN = " Default: the model's own."
SLOTS = "Number of experts that VRAM holds, e.g."
VRAM = "All of the VRAM: weights that stay, KV cache, a reserve, and expert slots, e.g."
CONTEXT = "Tokens of each sequence whose keys and values stay in VRAM, and to which decoding attends, e.g. 4096 or 32k."
LONGEST = " Default: the longest sequence of the trace is kept, and a token attends to those before it."
KV_FORMAT = "Format of cached keys and values: f16, q8_0 or q4_0."
RESERVE = "VRAM that the runtime and its activations are assumed to take."
BATCH = "Number of sequences that are processed together."
LINK = "Order of copies on the PCIe link: fifo, priority (demand loads first) or chunked."
THREADS = "CPU threads that compute experts, where a policy has it do so. Default: the profile's."
TIER = "Where experts live outside VRAM: host-pinned, host-pageable or nvme."
STYLE = (
    "How experts are computed: fused (the multiplication reads packed weights) or expand (to 16 bits first), and how "
    "they are launched: separate (one by one), grouped (the resident ones, then those that were loaded) or "
    "grouped-wait (all at once, after all loads), e.g. expand/grouped. Default: fused/separate; where every expert is "
    "resident, fused/grouped-wait."
)
DENSE = "Format of all weights except experts, e.g. int8. Default: the format in which experts are computed."
HOME = "Format of experts outside VRAM, e.g. int4. Default: that in VRAM."
COMPRESSED = "Number of extra VRAM slots that hold experts in the home format (see --home-format)."
HOST_SET = "Cost of launching kernels: graph (captured CUDA graphs) or eager."
HOST = (
    "Host that the device stands in: a shipped host's name (specmoe profile hosts) or a .toml file. "
    "Default: the usual host of the device."
)

Trace = Annotated[str, typer.Argument(help=TRACE, autocompletion=traces)]
Traces = Annotated[
    list[str], typer.Argument(help="Traces, one of each phase: bundled names or trace files.", autocompletion=traces)
]
Policies = Annotated[list[str], typer.Option(help=POLICY, autocompletion=policies)]
Profile = Annotated[str, typer.Option(help=PROFILE, autocompletion=profiles)]
Shape = Annotated[str | None, typer.Option(help=SHAPE + TRACES_OWN, autocompletion=shapes)]
Format = Annotated[str | None, typer.Option(help=FORMAT + OWN, autocompletion=formats)]
Style = Annotated[str | None, typer.Option(help=STYLE, autocompletion=styles)]
DenseFormat = Annotated[str | None, typer.Option(help=DENSE, autocompletion=formats)]
Threads = Annotated[int | None, typer.Option(help=THREADS)]
Slots = Annotated[int | None, typer.Option(help=f"{SLOTS} 154.")]
Vram = Annotated[str | None, typer.Option(help=f"{VRAM} 8GiB. Default: all of the device.")]
CacheBytes = Annotated[
    str | None, typer.Option(help="Bytes of VRAM for experts alone, e.g. 6GiB: as many slots as fit, each of its size.")
]
Batch = Annotated[int, typer.Option(help=BATCH)]
Context = Annotated[str | None, typer.Option(help=CONTEXT + LONGEST)]
KvFormat = Annotated[str, typer.Option(help=KV_FORMAT, autocompletion=kv_formats)]
AssumedReserve = Annotated[str, typer.Option(help=RESERVE)]
Link = Annotated[str, typer.Option(help=LINK, autocompletion=links)]
Tier = Annotated[str, typer.Option(help=TIER, autocompletion=tiers)]
HomeFormat = Annotated[str | None, typer.Option(help=HOME, autocompletion=formats)]
CompressedSlots = Annotated[int, typer.Option(help=COMPRESSED)]
HostSet = Annotated[str, typer.Option(help=HOST_SET, autocompletion=host_sets)]
Host = Annotated[str | None, typer.Option(help=HOST, autocompletion=hosts)]
Steps = Annotated[int | None, typer.Option(help="Stop after this many steps. Default: the whole trace.")]
WarmUp = Annotated[
    int | None,
    typer.Option(
        help="Number of first steps that figures leave out. Default: until demand could have filled every slot once, "
        "at most half of the steps."
    ),
]
Draws = Annotated[
    int | None,
    typer.Option(
        help="Time the same decisions on this number of machines that fit what is known of a machine, drawn out of its "
        "numbers' ranges: how far each policy's step varies, and on how many machines it is fastest. 0: none. "
        "Default: 200, fewer where many machines are compared; none with a number of the machine set or scaled "
        "(needs the extra fast)."
    ),
]
DrawSeed = Annotated[int | None, typer.Option(help="Seed of --draws. Default: 0.")]
Aligned = Annotated[
    bool,
    typer.Option("--aligned", help="Start all sequences of a batch at their first token, not at spread positions."),
]
Prefill = Annotated[
    str | None,
    typer.Option(
        help="Trace of the prefills (phase encode) of the same sequences: each runs before its decode steps, through "
        "the same slots, and the time to the first token and tokens/s of decoding are reported apart.",
        autocompletion=traces,
    ),
]
Verify = Annotated[
    int,
    typer.Option(
        help="Drafted tokens that a decode step verifies for each sequence: its experts are those of that number + 1 "
        "consecutive tokens. Tokens/s counts the tokens that are kept."
    ),
]
AssumedAcceptance = Annotated[
    str | None,
    typer.Option(
        help="Chance that a drafted token is accepted if those before it were: one number, or one for each drafted "
        "token, e.g. 0.8,0.7,0.6. It is an input: no draft model is run."
    ),
]
Train = Annotated[
    str | None,
    typer.Option(
        help="Trace that popularity and predictors learn from. Default: the trace's own train split.",
        autocompletion=traces,
    ),
]
Source = Annotated[Several, typer.Option(help=f"{SOURCE}{MORE}", autocompletion=domains)]
TrainSource = Annotated[Several, typer.Option(help=f"{TRAIN_SOURCE}{MORE}", autocompletion=domains)]
Device = Annotated[
    str, typer.Option(help="Where to compute: auto (CUDA if usable), cpu or cuda.", autocompletion=devices)
]
RandomInit = Annotated[
    bool, typer.Option("--random-init", help="Draw random weights instead of reading the checkpoint's.")
]

TraceList = Annotated[Several, typer.Option(help=TRACE + MORE, autocompletion=traces)]
SourceList = Annotated[Several, typer.Option(help=SOURCE + REPEAT, autocompletion=domains)]
TrainSourceList = Annotated[Several, typer.Option(help=TRAIN_SOURCE + REPEAT, autocompletion=domains)]
PolicyList = Annotated[Several, typer.Option(help=POLICY, autocompletion=policies)]
ProfileList = Annotated[Several, typer.Option(help=PROFILE + MORE, autocompletion=profiles)]
ShapeList = Annotated[Several, typer.Option(help=SHAPE + TRACES_OWN + MORE, autocompletion=shapes)]
FormatList = Annotated[Several, typer.Option(help=FORMAT + OWN + MORE, autocompletion=formats)]
StyleList = Annotated[Several, typer.Option(help=STYLE + MORE, autocompletion=styles)]
DenseFormatList = Annotated[Several, typer.Option(help=DENSE + MORE, autocompletion=formats)]
SlotsList = Annotated[Several, typer.Option(help=f"{SLOTS} 64,154 or 50..500:10 (10 values).")]
VramList = Annotated[Several, typer.Option(help=f"{VRAM} 4GiB,8GiB or 4GiB..24GiB:6 (6 values).")]
ContextList = Annotated[Several, typer.Option(help=CONTEXT + LONGEST + MORE)]
KvFormatList = Annotated[Several, typer.Option(help=KV_FORMAT + " Default: f16." + MORE, autocompletion=kv_formats)]
AssumedReserveList = Annotated[Several, typer.Option(help=f"{RESERVE} Default: 1GiB.{MORE}")]
BatchList = Annotated[Several, typer.Option(help=f"{BATCH} E.g. 1,8. Default: 1.")]
ThreadsList = Annotated[Several, typer.Option(help=f"{THREADS} E.g. 4,8.")]
LinkList = Annotated[Several, typer.Option(help=LINK + MORE, autocompletion=links)]
TierList = Annotated[Several, typer.Option(help=TIER + MORE, autocompletion=tiers)]
HomeFormatList = Annotated[Several, typer.Option(help=HOME + MORE, autocompletion=formats)]
CompressedSlotsList = Annotated[Several, typer.Option(help=f"{COMPRESSED} E.g. 0,16.")]
HostSetList = Annotated[Several, typer.Option(help=HOST_SET + MORE, autocompletion=host_sets)]
HostList = Annotated[Several, typer.Option(help=HOST + MORE, autocompletion=hosts)]
