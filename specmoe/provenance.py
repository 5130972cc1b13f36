"""Where a file or a result comes from: versions of the libraries that made it, the date, and hashes of files."""

import hashlib
import os
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from specmoe import __version__


def today() -> str:
    """The UTC day as YYYY-MM-DD, or that of SOURCE_DATE_EPOCH where a reproducible build sets it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.date().isoformat()


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
