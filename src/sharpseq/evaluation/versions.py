"""Versions of what a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("sharpseq", "torch", "transformers", "sacrebleu")


def installed_versions(*more: str) -> dict[str, str]:
    """Return the versions of Python and of the packages that shape a result, without importing them.

    Args:
        more: Other packages that shape it.

    Example:
        >>> sorted(installed_versions())
        ['python', 'sacrebleu', 'sharpseq', 'torch', 'transformers']
    """
    return {"python": platform.python_version(), **{package: _version(package) for package in (*_PACKAGES, *more)}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
