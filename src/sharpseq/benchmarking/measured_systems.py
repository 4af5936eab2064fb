"""A system of a benchmark: a folder, the engine that runs it, and how it decodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sharpseq.errors import UserError
from sharpseq.runtime import load
from sharpseq.runtime.manifest import is_export

Engine: TypeAlias = Literal["torch", "ctranslate2", "openvino"]

DTYPES = ("float32", "bfloat16")
"""What torch may compute in."""


@dataclass(frozen=True)
class System:
    """One system.

    Args:
        name: Its name in tables.
        folder: A run folder, a model folder, a Hub id, or an export.
        engine: What runs it.
        dtype: What torch computes in, one of `DTYPES`; as the weights were saved when not given.
        decoder: Name of the decoder of a torch model; its own default when not given.
        options: Options of the decoder.
        languages: ``source_language`` and ``target_language``, where they are given.
    """

    name: str
    folder: str
    engine: Engine = "torch"
    dtype: str | None = None
    decoder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    languages: Mapping[str, Any] = field(default_factory=dict)


def system_of(name: str, folder: str, settings: Mapping[str, Any]) -> System:
    """Return a system with the engine that its folder is made for.

    Args:
        name: Its name, unless the settings have another.
        folder: See `System`.
        settings: ``name``, ``dtype``, ``decoder``, ``source_language`` and ``target_language``; all others are options
            of the decoder.

    Raises:
        UserError: If the folder was exported for an engine that does not take one of the settings, or a ``dtype`` is
            unknown.

    Example:
        >>> system_of("student", "runs/student", {"dtype": "bfloat16", "iterations": 4}).options
        {'iterations': 4}
    """
    options = dict(settings)
    engine = _engine_of(folder)
    chosen = {key: options.pop(key) for key in ("name", "dtype", "decoder") if key in options}
    languages: dict[str, Any] = {
        key: options.pop(key) for key in ("source_language", "target_language") if key in options
    }
    fixed: dict[Engine, set[str]] = {
        "torch": set(),
        "ctranslate2": {"dtype", "decoder"},
        "openvino": set(settings) - {"name"},
    }
    for key in settings:
        if key in fixed[engine]:
            raise UserError(f"{folder} is an export for {engine}, which has no `{key}` to choose; leave it out")
    if chosen.get("dtype", DTYPES[0]) not in DTYPES:
        raise UserError(f"{folder}: `dtype` must be one of {', '.join(DTYPES)}; got {chosen['dtype']!r}")
    return System(**{"name": name, **chosen}, folder=folder, engine=engine, options=options, languages=languages)


def _engine_of(folder: str) -> Engine:
    from sharpseq.integrations import is_ctranslate2_export

    if is_export(folder):
        return "openvino"
    return "ctranslate2" if is_ctranslate2_export(folder) else "torch"


def files_of(system: System) -> list[Path]:
    """Return the files that a system is made of, in order; none for a model of the Hub.

    Raises:
        UserError: If there is no model.
    """
    folder = Path(system.folder)
    if system.engine == "torch":
        from sharpseq.generation import model_folder

        folder = Path(model_folder(system.folder))
    return sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []


def load_generate(system: System, *, num_threads: int) -> tuple[Callable[[list[str]], list[Any]], dict[str, Any]]:
    """Load a system.

    Args:
        system: The system.
        num_threads: Threads that it may compute with.

    Returns:
        What maps sentences to as many outputs, with ``text`` and ``error``; and how it decodes, for the record.

    Raises:
        UserError: If there is no model, or it is broken.
        ValueError: If a setting does not fit it.
        ImportError: If the engine is not installed.
    """
    return _LOADERS[system.engine](system, num_threads)


def _load_torch(system: System, num_threads: int) -> tuple[Callable[[list[str]], list[Any]], dict[str, Any]]:
    import torch
    from transformers.utils import logging

    from sharpseq.generation import SequenceGenerator

    logging.disable_progress_bar()
    torch.set_num_threads(num_threads)
    generator = SequenceGenerator.from_pretrained(
        system.folder,
        decoder=system.decoder,
        options=system.options,
        dtype=None if system.dtype is None else getattr(torch, system.dtype),
        **system.languages,
    )
    generator.try_out()
    dtype = str(next(generator.model.parameters()).dtype).removeprefix("torch.")
    return generator.generate_batch, {"dtype": dtype, "decoder": generator.decoder, **generator.options}


def _load_ctranslate2(system: System, num_threads: int) -> tuple[Callable[[list[str]], list[Any]], dict[str, Any]]:
    import torch

    from sharpseq.integrations import Ctranslate2Generator

    torch.set_num_threads(num_threads)
    generator = Ctranslate2Generator(
        system.folder, options=system.options, num_threads=num_threads, with_log_probs=False, **system.languages
    )
    return lambda lines: list(generator.generate(lines)), {"dtype": generator.compute_type, **generator.options}


def _load_openvino(system: System, num_threads: int) -> tuple[Callable[[list[str]], list[Any]], dict[str, Any]]:
    exported = load(system.folder, threads=num_threads)
    manifest = exported.manifest
    dtype = "float32" if manifest.quantization == "none" else manifest.quantization
    return exported.generate_batch, {"dtype": dtype, **manifest.options}


_LOADERS: Mapping[str, Callable[[System, int], tuple[Callable[[list[str]], list[Any]], dict[str, Any]]]] = {
    "torch": _load_torch,
    "ctranslate2": _load_ctranslate2,
    "openvino": _load_openvino,
}
