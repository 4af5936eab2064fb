"""``sharpseq info``: what is installed, what it can run on, what is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from sharpseq.processor_bf16 import cpu_bf16

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_SHOWN_VERSIONS = ("sharpseq", "torch", "transformers", "accelerate", "sacrebleu")
# Extras that combine others or are for development do not show what a user can run.
_GATHERED_EXTRAS = frozenset({"all", "dev"})


@dataclass(frozen=True)
class Devices:
    """The devices that computations can run on."""

    cpu_threads: int
    cpu_bf16: str
    cuda: list[str]
    mps: bool


@dataclass(frozen=True)
class Extra:
    """An optional extra: its missing packages, and the command that installs it."""

    name: str
    missing: list[str]
    install: str


@dataclass(frozen=True)
class Environment:
    """All that ``sharpseq info`` shows."""

    versions: dict[str, str | None]
    devices: Devices
    extras: list[Extra]
    decoding: str | None = None


def info(
    model: Annotated[
        str | None, typer.Argument(help="Also show how this run folder or model folder decodes by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Show versions, devices, and which optional extras are missing."""
    decoding = None if model is None else _decoding(model)
    environment = Environment(versions=_versions(), devices=_devices(), extras=_extras(), decoding=decoding)
    if as_json:
        import json

        typer.echo(json.dumps(asdict(environment), indent=2))
    else:
        _print_table(environment)


def _decoding(model: str) -> str:
    """Return the decoder settings that `sharpseq tune` wrote into a model folder, in a line."""
    from pathlib import Path

    from sharpseq.generation import model_folder, read_tuned_decoding

    tuned = read_tuned_decoding(Path(model_folder(model)))
    return "not tuned: the default decoder of the model, with its defaults" if tuned is None else str(tuned)


def _versions() -> dict[str, str | None]:
    import platform

    return {"python": platform.python_version()} | {name: _installed_version(name) for name in _SHOWN_VERSIONS}


def _installed_version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _devices() -> Devices:
    import torch

    return Devices(
        cpu_threads=torch.get_num_threads(),
        cpu_bf16=cpu_bf16(),
        cuda=[torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        mps=torch.backends.mps.is_available(),
    )


def _extras() -> list[Extra]:
    """Read the optional extras from the installed package's own metadata, so that they are listed in one place only."""
    from importlib.metadata import metadata, requires

    from packaging.requirements import Requirement

    requirements = [Requirement(line) for line in requires("sharpseq") or []]
    names = metadata("sharpseq").get_all("Provides-Extra") or []
    return [
        Extra(
            name=name,
            missing=[r.name for r in requirements if _belongs_to(r, extra=name) and not _is_met(r)],
            install=f"pip install 'sharpseq[{name}]'",
        )
        for name in names
        if name not in _GATHERED_EXTRAS
    ]


def _belongs_to(requirement: Requirement, *, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _is_met(requirement: Requirement) -> bool:
    version = _installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _print_table(environment: Environment) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    devices = environment.devices
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, version in environment.versions.items():
        table.add_row(name, version or "[red]missing[/red]")
    table.add_section()
    table.add_row("CPU threads", str(devices.cpu_threads))
    table.add_row("CPU bf16", devices.cpu_bf16)
    table.add_row("CUDA", ", ".join(devices.cuda) or "none")
    table.add_row("MPS", "available" if devices.mps else "none")
    table.add_section()
    for extra in environment.extras:
        missing = f"[yellow]missing {', '.join(extra.missing)}[/yellow]: {escape(extra.install)}"
        table.add_row(f"extra {extra.name}", missing if extra.missing else "present")
    if environment.decoding is not None:
        table.add_section()
        table.add_row("decoding", escape(environment.decoding))
    Console().print(table)
