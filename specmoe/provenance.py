"""Where a file or a result comes from: versions of the libraries that made it, and the date."""

import os
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

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
