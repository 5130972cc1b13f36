"""Reading what others wrote without trusting it; writing a file all at once or not at all.

Every reader goes through `parsing`, which makes one InputError of all that a parser raises, or through what is built on
it. Only regular files are read: a FIFO or a device would be waited for without end.

TOML is read strictly: every complaint is one line naming file, field and what would be right. What is written says
where it comes from: versions of the libraries that made it, the date, and hashes of files.
"""

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import re
import signal
import stat
import subprocess
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from specmoe import __version__
from specmoe.errors import InputError, Place, SpecmoeError, hint

MIB = 1 << 20
LARGEST_TOML, LARGEST_JSON, LARGEST_TABLE = MIB, 256 * MIB, 8192 * MIB  # bytes of a file that is read whole
DEEPEST = 100  # brackets in brackets, of JSON that a parser without a limit of its own reads
LONGEST = 300  # characters of a reason
KINDS = {  # what cannot be replaced by a file
    stat.S_ISDIR: "directory",
    stat.S_ISCHR: "device",
    stat.S_ISBLK: "device",
    stat.S_ISFIFO: "pipe",
    stat.S_ISSOCK: "socket",
}
_STRING = re.compile(rb'"(?:[^"\\\n]|\\.)*"')
_DOT = re.compile(r"\.(?![\s\d])")  # in a line of TOML: of a dotted name, unless it is in a text
_STEP = {b"["[0]: 1, b"{"[0]: 1, b"]"[0]: -1, b"}"[0]: -1}


def require_regular(path: Path, what: str, most: int | None = None) -> None:
    """Raise InputError, `path: not WHAT (reason)`, unless a path is a regular file of `most` bytes at most."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not {what} ({reason(error)})") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "is a directory" if stat.S_ISDIR(status.st_mode) else "is neither file nor directory"
        raise InputError(f"{path}: not {what} ({kind})")
    if most is not None and status.st_size > most:
        raise InputError(f"{path}: not {what} ({status.st_size} bytes: at most {most // MIB} MiB expected)")


def reason(error: BaseException) -> str:
    """What went wrong in one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "more than memory holds"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}...") or type(error).__name__


@contextmanager
def parsing(path: Path, what: str, error_class: type[SpecmoeError] = InputError) -> Iterator[None]:
    """Make one line, `path: not WHAT (reason)`, of whatever the block raises while it makes sense of a file.

    A SpecmoeError passes as it is. Every other exception is taken for the file's fault, so the block should hold
    parsing and nothing else.
    """
    try:
        yield
    except SpecmoeError:
        raise
    except Exception as error:  # parsers raise anything: RecursionError, UnicodeDecodeError, ArrowInvalid, TokenError
        raise error_class(f"{path}: not {what} ({reason(error)})") from None


def read_text(path: Path, what: str = "a text", most: int = LARGEST_JSON) -> str:
    """A whole UTF-8 file of at most `most` bytes; raises InputError."""
    require_regular(path, what, most)
    with parsing(path, what):
        return path.read_text(encoding="utf-8")


def read_json(path: Path, what: str = "a JSON file") -> Any:
    """The value of a JSON file; raises InputError."""
    text = read_text(path, what)
    with parsing(path, what):
        return _shallow(json.loads(text))


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file; raises InputError if it is not there or is no TOML."""
    text = read_text(path, "a TOML file", LARGEST_TOML)
    with parsing(path, "a TOML file"):
        if any(len(_DOT.findall(line)) > 4 * DEEPEST for line in text.splitlines()):
            raise RecursionError  # the parser would take hours for a name of many thousand parts
        table: dict[str, Any] = _shallow(tomllib.loads(text))
    return table


def _shallow(value: Any) -> Any:
    """The value itself; raises RecursionError if it is nested more than DEEPEST deep, for whoever walks through it."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for parts in inner for part in parts]
        if not level:
            return value
    raise RecursionError


def require_shallow(lines: Iterable[bytes]) -> None:
    """Raise ValueError for JSON whose brackets are nested more than DEEPEST deep, which can crash its parser."""
    depth = 0
    for line in lines:
        bare = _STRING.sub(b"", line)
        opened = bare.count(b"[") + bare.count(b"{")
        if not depth and opened <= DEEPEST and opened == bare.count(b"]") + bare.count(b"}"):
            continue
        for byte in bare:
            depth = max(0, depth + _STEP.get(byte, 0))
            if depth > DEEPEST:
                raise ValueError("nested too deeply")


def make_directory(path: Path) -> None:
    """A directory and all above it, unless they are there; raises InputError if it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}: a directory expected") from None


@contextmanager
def directory_for(path: Path) -> Iterator[None]:
    """`make_directory`; what had to be made is gone again if the block raises and has written nothing."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    make_directory(path)
    try:
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
        raise


@contextmanager
def alone_in(directory: Path, what: str) -> Iterator[None]:
    """No other process that asks for the same is in the directory meanwhile; one that dies leaves it free.

    Raises InputError, naming `what` is there, if another one is.
    """
    held = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{directory}: {what} is running there: wait for its end, or take another place") from None
        yield
    finally:
        os.close(held)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target`; rename it to `target` on a clean exit, remove it on any other.

    Readers of `target` see the old file or the whole new one. A symbolic link stays one: the file that it names is
    written. Temporary files that dead processes left for the same target are removed. Raises InputError if `target` is
    no place for a regular file, or cannot be written.
    """
    place = _place_of(target)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with _marked(temporary):
            _remove_stale(place)
            yield temporary
            temporary.replace(place)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _place_of(target: Path) -> Path:
    """Where a target's file is, links followed; raises InputError if no regular file can be there."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise InputError(f"{target}: {error.strerror or error}: a file name expected") from None
    place = Path(os.path.realpath(target))
    if stat.S_ISREG(mode) and place.parent.is_dir():
        return place
    kinds = (kind for is_one, kind in KINDS.items() if is_one(mode))
    problem = next((f"is a {kind}" for kind in kinds), f"there is no directory {place.parent}")
    raise InputError(f"{target}: {problem}: a file name in an existing directory expected")


@contextmanager
def _marked(temporary: Path) -> Iterator[None]:
    """The file is there and locked, which tells other processes that its writer lives."""
    held = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def _remove_stale(place: Path) -> None:
    """Remove temporary files of a place that no process holds a lock on."""
    pattern = re.compile(rf"\.{re.escape(place.name)}\.\d+\.tmp")
    for path in [path for path in place.parent.iterdir() if pattern.fullmatch(path.name)]:
        with suppress(OSError):
            held = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(held)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block like an exception, so that it cleans up; one that is ignored stays ignored."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    alone = threading.current_thread() is threading.main_thread()
    ours = [number for number in signals if alone and signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: object) -> None:
        for other in ours:
            signal.signal(other, signal.SIG_IGN)  # cleaning up is not interrupted
        raise SystemExit(128 + number)

    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


Record = TypeVar("Record")


def require_names(place: Place, table: object, needed: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """A table that has all needed names and no unknown one; raises InputError for any other thing."""
    needed, known = list(needed), [*needed, *optional]
    if not isinstance(table, dict):
        raise place.wrong(f"{table!r}: a table expected")
    for name in table:
        if name not in known:
            raise (place / name).wrong(f"unknown field: {hint(name, known)}")
    missing = [name for name in needed if name not in table]
    if len(missing) > 1:
        raise place.wrong(f"{len(missing)} fields missing: {', '.join(missing)}")
    for name in missing:
        raise (place / name).wrong("missing")
    return table


def read_record(cls: type[Record], place: Place, table: object, parts: Mapping[str, Any] | None = None) -> Record:
    """A dataclass of numbers of 0 or more, booleans and texts from a table with the same names.

    Fields with a default may be absent; those in `parts` are given and are not looked for.
    """
    parts = parts or {}
    fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in parts}  # type: ignore[arg-type]
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    found = require_names(place, table, needed, fields)
    types = get_type_hints(cls)
    for name, value in found.items():
        wanted = types[name] if types[name] in (int, float, bool) else str
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise (place / name).wrong(f"{value!r}: {_article(wanted)} expected")
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise (place / name).wrong(f"{value}: 0 or more expected")
    return cls(**found, **parts)


def _article(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]


def today() -> str:
    """The UTC day as YYYY-MM-DD, or that of SOURCE_DATE_EPOCH where a reproducible build sets it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.date().isoformat()


@cache
def _version(package: str) -> str:
    """Of specmoe itself, that of the source, which may be on the path without being installed."""
    try:
        return __version__ if package == "specmoe" else version(package)
    except PackageNotFoundError:
        return "unknown"


def library_versions(*packages: str) -> dict[str, str]:
    """Installed versions of specmoe and of the packages named, for `TraceMeta.versions`."""
    return {package: _version(package) for package in sorted({"specmoe", *packages})}


def commit() -> str | None:
    """The commit of specmoe's source, `-dirty` if it was changed since; none of an installed package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None


def hash_of_file(path: Path) -> str:
    """`hash_of_bytes` of a file, which is never whole in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def hash_of_bytes(content: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256, for names and manifests."""
    return hashlib.sha256(content).hexdigest()[:16]
