"""Facts about the measured machine, as far as driver and system report them."""

import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import torch

from specmoe.hwprofiles.curves import Fact

QUERIES = {
    "driver": "driver_version",
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "pcie_generation": "pcie.link.gen.current",
    "pcie_generation_max": "pcie.link.gen.max",
    "pcie_width": "pcie.link.width.current",
    "pcie_width_max": "pcie.link.width.max",
}
CPUINFO = Path("/proc/cpuinfo")

Ask = Callable[[list[str]], str]


def machine_facts(device: torch.device) -> dict[str, Fact]:
    """Facts about a CUDA device and its host."""
    properties = torch.cuda.get_device_properties(device)
    known: dict[str, Fact] = {
        "device": properties.name,
        **driver_facts(getattr(properties, "uuid", None), asked),
        "multiprocessors": properties.multi_processor_count,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda or "",
        "blas": blas(),
    }
    return known | host_facts()


def blas() -> str:
    """The library whose matrix products torch prefers, with its own choice of kernels: cublas or cublaslt."""
    return str(torch.backends.cuda.preferred_blas_library()).rpartition(".")[2].lower()


def host_facts() -> dict[str, Fact]:
    """Facts about the host, the libraries and the date."""
    release = re.match(r"[\d.]*\d", platform.release())  # the version, without the name of a build
    facts: dict[str, Fact] = {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cpu": cpu_name(CPUINFO),
        "kernel": f"{platform.system()} {release[0] if release else ''}".strip(),
        "date": date.today().isoformat(),
    }
    return {name: fact for name, fact in facts.items() if fact != ""}


def driver_facts(uuid: object, ask: Ask) -> dict[str, Fact]:
    """Facts that nvidia-smi reports of a device by id (None: the first one); empty if nvidia-smi is unavailable."""
    which = "0" if uuid is None else f"GPU-{uuid}"
    command = ["nvidia-smi", "-i", which, f"--query-gpu={','.join(QUERIES.values())}", "--format=csv,noheader,nounits"]
    try:
        answer = ask(command)
    except (OSError, subprocess.SubprocessError):
        return {}
    fields = [field.strip() for field in answer.strip().split(",")]
    if len(fields) != len(QUERIES):
        return {}
    facts = {name: fact(field) for name, field in zip(QUERIES, fields, strict=True) if _is_reported(field)}
    return facts | ({"driver": fields[0]} if "driver" in facts else {})


def asked(command: list[str]) -> str:
    """Output of a command; raises OSError or SubprocessError if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def fact(text: str) -> Fact:
    """Text as a whole number if it is one, else unchanged."""
    return int(text) if re.fullmatch(r"\d+", text) else text


def cpu_name(cpuinfo: Path) -> str:
    """Name of the processor; empty if the system does not report it."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor()


def slug(device: str) -> str:
    """Device name as a file name, e.g. `h100-80gb-hbm3` for `NVIDIA H100 80GB HBM3`."""
    words = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return words.removeprefix("nvidia-") or "device"


def link(facts: Mapping[str, Fact], name: str) -> int | None:
    """Maximum `generation` or `width` of the PCIe link; None if the driver does not report it."""
    value = facts.get(f"pcie_{name}_max", facts.get(f"pcie_{name}"))
    return value if isinstance(value, int) and value > 0 else None


def _is_reported(field: str) -> bool:
    return bool(field) and not field.startswith("[") and field not in ("N/A", "Unknown Error")
