"""The files of a validation: how far simulated steps are from measured ones. `specmoe validate` writes them.

<name>.json             `Circumstances`, e.g. the machine, and `Verdict`: targets, and the errors of all cells together
<name>.cells.parquet    one row per cell: `CellFidelity`, with the errors beside the times that they follow from
<name>.steps.parquet    every measured step: see `specmoe.validate.store`

Errors are shares. The JSON's `files` holds the SHA-256 of the other two, so files of different validations are never
mixed. Reports read these files with the classes that write them, and need no device.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular
from specmoe.hwprofiles.shape import Format, Phase

CELLS, STEPS = ".cells.parquet", ".steps.parquet"
PARTS = ("compute", "stall", "host")
INTEGERS = ("batch", "steps", "slots", "repeats", "threads")
TEXTS = ("shape", "phase", "format", "home_format", "policy", "role", "style")
A_VALIDATION, JUDGED_CELLS = "a validation of specmoe", "judged cells of specmoe"

Role = Literal["fit", "held_out"]


@dataclass(frozen=True)
class CellKey:
    """What one cell ran: a policy on a number of slots, in a group of cells that share everything else."""

    shape: str
    phase: Phase
    format: Format  # of the slots
    home_format: Format | None  # None: that of the slots
    batch: int
    steps: int
    policy: str
    slots: int
    role: Role  # constants may be fitted on cells of role `fit`; the others are held out
    style: str = ""  # of the experts' kernels; empty: expanded where compressed, one launch each
    threads: int | None = None  # of the CPU, where a grid says so

    @property
    def group(self) -> str:
        """`switch-base-128/decode/fp16/b1`; a home format that differs from the slots' comes first: int8>fp16."""
        stored = self.format if self.home_format is None else f"{self.home_format}>{self.format}"
        style = f"/{self.style}" if self.style else ""
        threads = f"/t{self.threads}" if self.threads else ""
        return f"{self.shape}/{self.phase}/{stored}{style}/b{self.batch}{threads}"

    @property
    def name(self) -> str:
        """`switch-base-128/decode/fp16/b1/lookahead/154`."""
        return f"{self.group}/{self.policy}/{self.slots}"

    @property
    def held_out(self) -> bool:
        """Whether no constant was fitted on this cell."""
        return self.role == "held_out"


class Side(NamedTuple):
    """Times of a step, ns. The mean is the sum of its parts; host: the compute stream waits for the host thread."""

    mean_ns: float
    p50_ns: float
    p95_ns: float
    compute_ns: float
    stall_ns: float
    host_ns: float


class HostState(NamedTuple):
    """What the calls of the host thread took while a cell was replayed, ns, medians; 0 where it made none."""

    launch_dense: int
    launch: int
    issue: int


@dataclass(frozen=True)
class CellFidelity:
    """One cell, measured and simulated."""

    cell: CellKey
    repeats: int
    measured: Side
    simulated: Side
    spread: float  # largest minus smallest mean of the repeats, as a share of the median
    noise_ns: float  # standard deviation of one step between repeats
    step_correlation: float | None  # of simulated and measured steps; None where all steps are alike
    host: HostState | None = None  # None in replays from before it was recorded
    with_host: Side | None = None  # simulated with that state of the host instead of the profile's costs

    @property
    def by_its_host(self) -> "CellFidelity":
        """The same cell, simulated with the state that the host had."""
        return self if self.with_host is None else dataclasses.replace(self, simulated=self.with_host)

    @property
    def error(self) -> float:
        """Error of the mean step: simulated / measured - 1."""
        return self.simulated.mean_ns / self.measured.mean_ns - 1

    @property
    def p50_error(self) -> float:
        """Error of the median step."""
        return self.simulated.p50_ns / self.measured.p50_ns - 1

    @property
    def p95_error(self) -> float:
        """Error of the 95th percentile of steps."""
        return self.simulated.p95_ns / self.measured.p95_ns - 1

    def part_error(self, part: str) -> float:
        """Error of one of `PARTS`, as a share of the measured mean step."""
        name = f"{part}_ns"
        difference: float = getattr(self.simulated, name) - getattr(self.measured, name)
        return difference / self.measured.mean_ns


@dataclass(frozen=True)
class Overall:
    """Cells together: errors of the mean step, as shares, and the order of the policies."""

    cells: int
    median_abs_error: float
    p95_abs_error: float
    worst_abs_error: float
    worst_cell: str
    mean_compute_error: float  # signed; the three add up to the mean of the cells' errors
    mean_stall_error: float
    mean_host_error: float
    kendall_tau: float | None  # None without pairs
    kendall_pairs: int  # pairs of policies that differ by more than their spread
    median_step_correlation: float | None  # None where no cell has one
    correlated_cells: int  # cells that have one


@dataclass(frozen=True)
class Verdict:
    """Cells together, by role; None for a role that no cell has.

    Whole groups are those without a cell of role `fit`: another shape, format, style or batch than those fitted on.
    `held_out_by_its_host` is `held_out` simulated with the state of the host that each replay saw.
    """

    held_out: Overall | None
    fit: Overall | None
    all: Overall | None
    targets: Mapping[str, float]  # for the held-out cells
    failed: Sequence[str]  # each missed target, in words with numbers
    held_out_groups: Overall | None = None
    held_out_by_its_host: Overall | None = None


@dataclass(frozen=True)
class Circumstances:
    """What a validation depends on besides its cells."""

    name: str  # of the files: the profile's, and more where one profile has several validations
    device: Mapping[str, Any]
    profile: str
    profile_hash: str
    evidence: str  # the weakest of the simulated results
    traces: Mapping[str, str]  # the beginning of their SHA-256, by name
    versions: Mapping[str, str]
    date: str
    seconds: float
    semantics: str = "event-atomic"
    notes: tuple[str, ...] = ()

    @property
    def device_name(self) -> str:
        """The machine's device, e.g. NVIDIA H100 80GB HBM3."""
        return str(self.device.get("device", "unknown device"))


@dataclass(frozen=True)
class Validation:
    """A validation as its files describe it."""

    circumstances: Circumstances
    verdict: Verdict
    cells: tuple[CellFidelity, ...]
    path: Path  # of the JSON

    @property
    def name(self) -> str:
        """The name that its files share."""
        return self.circumstances.name

    @property
    def steps(self) -> Path:
        """The file of its measured steps."""
        return paths_of(self.path.parent, self.name)[2]

    @property
    def worst(self) -> float:
        """The largest absolute error of a mean step, as a share."""
        return max((abs(cell.error) for cell in self.cells), default=0.0)


def paths_of(directory: Path, name: str) -> list[Path]:
    """The three files of a validation, the JSON first; raises InputError for a name with directories in it."""
    if not name or Path(name).name != name:
        raise InputError(f"{name!r}: a name without directories expected")
    return [directory / f"{name}{ending}" for ending in (".json", CELLS, STEPS)]


def is_validation(value: Any) -> bool:
    """Whether a JSON value describes a validation."""
    return isinstance(value, dict) and value.keys() >= {"name", "held_out", "targets", "failed", "files"}


def write_description(
    path: Path, circumstances: Circumstances, verdict: Mapping[str, Any], hashes: Mapping[str, str]
) -> None:
    """Write the JSON; `verdict` holds the fields of `Verdict`, `hashes` the SHA-256 of the two other files by name."""
    fields = {**dataclasses.asdict(circumstances), **verdict, "files": dict(hashes)}
    path.write_text(json.dumps(fields, indent=1, allow_nan=False) + "\n")


def read_validation(path: Path) -> Validation:
    """The validation of a JSON file; raises InputError unless the cells beside it are its own. Reads no steps."""
    with parsing(path, A_VALIDATION):
        fields: dict[str, Any] = read_json(path, A_VALIDATION)
        circumstances, verdict = _circumstances(fields), _verdict(fields)
        cells = paths_of(path.parent, circumstances.name)[1]
        digest = dict(fields["files"])[cells.name]
    require_digest(path, cells, digest)
    return Validation(circumstances, verdict, read_cells(cells), path)


def require_digest(path: Path, file: Path, digest: str) -> None:
    """Raise InputError unless the file has the SHA-256 that the JSON at `path` gives for it."""
    if not file.is_file() or sha256(file) != digest:
        raise InputError(f"{file}: missing, or not the one that {path.name} belongs to")


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _circumstances(fields: Mapping[str, Any]) -> Circumstances:
    own = {field.name: fields[field.name] for field in dataclasses.fields(Circumstances)}
    return Circumstances(**own | {"notes": tuple(fields["notes"]), "device": dict(fields["device"])})


def _verdict(fields: Mapping[str, Any]) -> Verdict:
    known = [field.name for field in dataclasses.fields(Verdict) if field.name not in ("targets", "failed")]
    overall = {name: Overall(**fields[name]) if fields.get(name) else None for name in known}
    return Verdict(**overall, targets=dict(fields["targets"]), failed=tuple(fields["failed"]))


def write_cells(path: Path, cells: Sequence[CellFidelity]) -> None:
    """Write a row for each cell, all of them or none."""
    rows = [_row(cell) for cell in cells]
    unused = [name for name in ("style", "threads") if not any(row[name] for row in rows)]  # as in earlier files
    rows = [{name: value for name, value in row.items() if name not in unused} for row in rows]
    columns = {name: pa.array([row[name] for row in rows], _type(name)) for name in (rows[0] if rows else ())}
    with replacing(path) as fresh:
        pq.write_table(pa.table(columns), fresh, compression="zstd")


def read_cells(path: Path) -> tuple[CellFidelity, ...]:
    """The cells that `write_cells` wrote; raises InputError for any other file."""
    require_regular(path, JUDGED_CELLS)
    with parsing(path, JUDGED_CELLS):
        return tuple(_cell(row) for row in pq.read_table(path).to_pylist())


def key_of(row: Mapping[str, Any]) -> CellKey:
    """The cell of a row, which may have more fields; raises KeyError if one is missing, unless later files added it."""
    row = {"style": "", "threads": None} | dict(row)
    return CellKey(**{field.name: row[field.name] for field in dataclasses.fields(CellKey)})


def _row(cell: CellFidelity) -> dict[str, Any]:
    sides = {"measured": cell.measured, "simulated": cell.simulated, "with_host": cell.with_host}
    return {
        **dataclasses.asdict(cell.cell),
        "repeats": cell.repeats,
        **{
            f"{side}_{name}": value for side, times in sides.items() if times for name, value in times._asdict().items()
        },
        **({f"host_{name}_ns": float(ns) for name, ns in cell.host._asdict().items()} if cell.host else {}),
        **{name: getattr(cell, name) for name in ("error", "p50_error", "p95_error")},
        **{f"{part}_error": cell.part_error(part) for part in PARTS},
        **{name: getattr(cell, name) for name in ("spread", "noise_ns", "step_correlation")},
    }


def _cell(row: Mapping[str, Any]) -> CellFidelity:
    measured, simulated = (_side(row, side) for side in ("measured", "simulated"))
    with_host = None if row.get("with_host_mean_ns") is None else _side(row, "with_host")
    calls = [row.get(f"host_{name}_ns") for name in HostState._fields]
    host = HostState(*(round(ns) for ns in calls if ns is not None)) if None not in calls else None
    rest = (row["spread"], row["noise_ns"], row["step_correlation"], host, with_host)
    return CellFidelity(key_of(row), row["repeats"], measured, simulated, *rest)


def _side(row: Mapping[str, Any], side: str) -> Side:
    return Side(*(row[f"{side}_{name}"] for name in Side._fields))


def _type(name: str) -> pa.DataType:
    if name in INTEGERS:
        return pa.int32()
    return pa.string() if name in TEXTS else pa.float64()
