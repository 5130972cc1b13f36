"""How numba compiles functions here, and what their compiled code on disk depends on.

numba takes compiled code from disk as long as the file of the function that is called has not changed, though the code
contains functions and numbers of other files as well. Numba also tells code apart by what its function closes over:
so each function that is kept on disk closes over the `version_of` all these files.
Import this module only where it is used, since it needs numba.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


class Decorator(Protocol):
    """Of a function."""

    def __call__(self, function: Function) -> Function:
        """A function of the same type."""


jit = cast(Callable[..., Decorator], njit)
inlined = jit(inline="always")


def version_of(sources: Iterable[ModuleType]) -> int:
    """A number that changes with the source of any of these modules, and with how functions are compiled here."""
    files = (__file__, *(str(module.__file__) for module in sources))
    digests = b"".join(hashlib.sha256(Path(file).read_bytes()).digest() for file in files)
    return int.from_bytes(hashlib.sha256(digests).digest()[:7])
