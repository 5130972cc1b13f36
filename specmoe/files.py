"""Writing a file all at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from specmoe.errors import InputError


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
    import fcntl

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

    Readers of `target` see the old file or the whole new one. Raises InputError if the place cannot be written.
    """
    if target.is_dir() or not target.parent.is_dir():
        problem = "is a directory" if target.is_dir() else f"there is no directory {target.parent}"
        raise InputError(f"{target}: {problem}: a file name in an existing directory expected")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
