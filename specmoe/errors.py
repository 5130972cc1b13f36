"""What can go wrong.

SpecmoeError            anything a user can put right; the CLI prints it in one line and exits with 1
├── InputError          a file, a name or an option is wrong; the message names it and says what would be right
├── TraceError          a trace breaks the schema of `specmoe.traces.schema`
├── ModelError          a model has no routers, or cannot be read
└── MissingExtraError   an optional dependency is not installed; the message says how to get it
"""

from __future__ import annotations

from specmoe.text import install


class SpecmoeError(Exception):
    """Base of every error that specmoe raises on purpose; its message is one line."""


class InputError(SpecmoeError):
    """A file, name or option is wrong."""


class TraceError(SpecmoeError):
    """A trace breaks its schema."""


class ModelError(SpecmoeError):
    """A model cannot be used: no routers, unknown class, unreadable checkpoint."""


class MissingExtraError(SpecmoeError):
    """An optional dependency is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: {install([extra])}")
