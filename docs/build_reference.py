"""Write the pages that are made from the code: docs/api.md, docs/cli.md, docs/policies.md,
docs/machines.md. `make reference` runs it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from typer.main import get_command

import specmoe
from specmoe import api
from specmoe.cli import app
from specmoe.hwprofiles.catalogue import host_names, load_host
from specmoe.hwprofiles.quantity import POINTS, QUANTITIES, REQUIRED, owner_of

DOCS = Path(__file__).parent
FUNCTIONS = ("simulate", "sweep", "advise", "budget")
RESULTS = ("Simulation", "Summaries", "Sweep", "Advice", "VramBudget")
STYLES = ("help", "as_json", "as_csv", "as_markdown")  # which every command has
CATALOGUES = ("policies", "evictions", "misses", "predictors", "profiles", "hosts", "shapes")


def api_page() -> str:
    """Functions, results and catalogues of `specmoe.api`."""
    head = inspect.cleandoc(api.__doc__ or "").split("\n", 1)
    parts = ["# Python API", "", "T" + head[0].removeprefix("The Python API: t"), "", _code(head[1]), ""]
    for name in FUNCTIONS:
        parts += [f"## specmoe.{name}", "", f"```python\n{_signature(name)}\n```", "", _text(getattr(api, name)), ""]
    parts += ["## Results", ""]
    for name in RESULTS:
        made = getattr(api, name)
        parts += [f"### {name}", "", _text(made), "", "| attribute | meaning |", "|---|---|"]
        parts += [f"| `{member}` | {_cell(_text(value))} |" for member, value in _members(made)]
        parts += [""]
    parts += ["## Catalogues", "", "Each function gives a DataFrame.", "", "| function | rows |", "|---|---|"]
    parts += [f"| `specmoe.{name}()` | {_cell(_text(getattr(api, name)))} |" for name in CATALOGUES]
    parts += [f"| `specmoe.traces()` | {_cell(_text(type(specmoe.traces).__call__))} |", ""]
    return "\n".join(parts)


def cli_page() -> str:
    """Every command with its arguments and options."""
    parts = [
        "# Commands",
        "",
        "Every command has `--help` (`-h`). `specmoe --install-completion` lets the shell complete names.",
        "",
        "Every command prints a table for people, or with `--json`, `--csv` or `--markdown` the same for programs.",
        "",
    ]
    for name, command in _commands("specmoe", get_command(app)):
        parts += [f"## {name}", "", inspect.cleandoc(command.help or "").replace("\b\n", ""), ""]
        rows = [_option(parameter) for parameter in command.params if parameter.name not in STYLES]
        parts += ["| option | default | meaning |", "|---|---|---|", *rows, ""] if rows else []
        parts += _examples(command.epilog or "")
    return "\n".join(parts)


def _examples(epilog: str) -> list[str]:
    """The commands that end a help, as a block."""
    lines = [line.strip().removeprefix("$ ") for line in epilog.splitlines() if line.strip().startswith("$ ")]
    return ["```sh", *lines, "```", ""] if lines else []


def policies_page() -> str:
    """Every policy, eviction, miss rule and predictor."""
    parts = ["# Policies, evictions, miss rules, predictors", "", "`specmoe policies` prints these tables.", ""]
    titles = {"policies": "Policies", "evictions": "Evictions", "misses": "Miss rules", "predictors": "Predictors"}
    for name, title in titles.items():
        parts += [f"## {title}", "", *_table(getattr(api, name)()), ""]
    return "\n".join(parts)


def schema_page() -> str:
    """Every field of the files that describe machines."""
    parts = ["# Files of machines", "", *inspect.cleandoc(SCHEMA).splitlines(), "", "## Every quantity", ""]
    parts += ["Without the optional ones a file is refused, in one line that names all that are missing.", ""]
    parts += ["| quantity | unit | whose | |", "|---|---|---|---|"]
    units = {**QUANTITIES, **{name: f"{unit}, ns" for name, unit in POINTS.items()}}
    for name, unit in units.items():
        kind = "points, optional" if name in POINTS else "" if name in REQUIRED else "optional"
        parts.append(f"| `{name}` | {unit} | {owner_of(name)} | {kind} |")
    parts += ["", "## Shipped hosts", "", "| host | machine | measured with |", "|---|---|---|"]
    for host in map(load_host, host_names()):
        parts.append(f"| `{host.name}` | {host.title} | {host.measured_with or ''} |")
    return "\n".join(parts)


SCHEMA = """
A machine is a device in a host. Each is a TOML file, and `specmoe profile measure` writes one file of both:

| file | has | shipped ones |
|---|---|---|
| device | `usual_host`, and numbers whose owner is the device | `specmoe profile list` |
| host | numbers whose owner is the host; optional `measured_with`: a device | `specmoe profile hosts` |
| machine | everything; optional `host_name`, which is shown only | |

`--profile rtx3090` is the device in its usual host, `--profile rtx3090 --host laptop-x8` (or `rtx3090+laptop-x8`, where
only one name fits) in another one. A file of a whole machine gives up its host's numbers there.

Numbers of either limit each other: a machine has the lower generation and the smaller number of lanes, and of pinned
copies in each direction all numbers (latency, bandwidth or points) of the part whose large copies are slower.
Pageable copies are the host's, and no faster than pinned ones.

Fits are of a pair. In another machine, numbers measured together with another device are `derived`, numbers fitted on
whole runs are `assumed`, a calibration is gone, and every result says so.

`measured_with` names the device that a host's numbers were measured or fitted with.

A quantity is a table `{ value, unit, source, ref }`:

```toml
[device]
kernel_floor = { value = 1.0, unit = "us", low = 0.8, high = 1.15, source = "derived", ref = "who, when, how" }
```

`source` is `measured` (on this machine), `published` (for this device, by others), `derived` (computed from such
numbers, as `ref` says) or `assumed`. `low` and `high`, both or neither, are in the same unit and enclose the value:
what disagreeing sources, an unknown host or repeated measurements leave open.

Points are a curve, and replace a bandwidth or rate. Their `low` and `high` are factors of all times, around 1:

```toml
[host_to_device.pinned.points]
unit = ["MiB", "us"]
source = "measured"
ref = "copies back to back"
low = 0.98
high = 1.03
values = [
    [1, 21.7],
    [64, 1229],
]
```

Measured kernels are the tables `[[expert_curve]]`, `[[dense_curve]]` (of a device) and `[[cpu_curve]]` (of a host),
with points by tokens. `specmoe profile measure` writes them. `specmoe profile new` writes a machine from a spec sheet:

```sh
specmoe profile new --base rtx4090 --set device.vram=48GiB --ref "data sheet" --out mine.toml
```

What is not given is the base's, and assumed; without a base, all that is missing is named at once.
"""

PAGES = {"api.md": api_page, "cli.md": cli_page, "policies.md": policies_page, "machines.md": schema_page}


def _code(text: str) -> str:
    """Indented lines as a block of Python; other lines as they are."""
    lines, block = list[str](), False
    for line in text.strip("\n").split("\n"):
        inside = line.startswith("    ") or (block and not line)
        if inside != block:
            lines.append("```python" if inside else "```")
        block = inside
        lines.append(line.removeprefix("    ") if inside else line)
    return re.sub(r"\n\n```\n", "\n```\n\n", "\n".join(lines))


def _signature(name: str) -> str:
    """One parameter a line."""
    shown = [str(parameter).replace("'", "") for parameter in inspect.signature(getattr(api, name)).parameters.values()]
    keywords = [at for at, p in enumerate(inspect.signature(getattr(api, name)).parameters.values()) if p.kind == 3]
    shown.insert(keywords[0], "*")
    return "\n".join([f"specmoe.{name}(", *(f"    {line}," for line in shown), ")"])


def _text(documented: Any) -> str:
    return inspect.getdoc(documented) or ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _members(made: type) -> Iterator[tuple[str, Any]]:
    """Public properties and methods, in their order."""
    for name, value in vars(made).items():
        if not name.startswith("_") and (callable(value) or inspect.getdoc(value)) and not isinstance(value, str):
            yield (f"{name}()" if inspect.isfunction(value) else name), value


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """All that can be run, in the order of the help."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, sub in command.commands.items():
        yield from _commands(f"{name} {inner}", sub)


def _option(parameter: Any) -> str:
    names = (
        parameter.metavar or parameter.name.upper()
        if parameter.param_type_name == "argument"
        else ", ".join(parameter.opts)
    )
    default = parameter.default
    shown = "" if default in (None, False, ...) or parameter.required else f"`{default}`"
    needed = "required" if parameter.required else shown
    return f"| `{names}` | {needed} | {_cell(getattr(parameter, 'help', '') or '')} |"


def _table(rows: pd.DataFrame) -> list[str]:
    lines = [f"| `{row['name']}` | {_cell(row['about'])} | {_cell(row['source'])} |" for _, row in rows.iterrows()]
    return ["| name | what it does | source |", "|---|---|---|", *lines]


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page().rstrip() + "\n")
        typer.echo(f"docs/{name}")


if __name__ == "__main__":
    main()
