"""``sharpseq serve``: a translation server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sharpseq.errors import UserError

if TYPE_CHECKING:
    from sharpseq.serving.model_choice import ModelChoice
    from sharpseq.serving.translators import Pair, Quality, Translator


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE:TARGET=MODEL...",
            help="Languages and a run folder, a model folder or a Hub id, such as en:de=runs/multi30k-ctc; "
            "en:de,en:fr=MODEL for a multilingual model; en:de/best=MODEL to serve only requests for quality.",
            show_default=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 5000,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.", min=0.1, max=3600)] = 30.0,
) -> None:
    """Serve models over HTTP with LibreTranslate's API, batching across requests."""
    try:
        from sharpseq.serving.app import create_app
        from sharpseq.serving.server import address_of, listen, run_app
    except ImportError as error:
        raise UserError(f"serving needs the package `{error.name}`: pip install 'sharpseq[serve]'") from error
    from sharpseq.serving.model_choice import parse_model_choices
    from sharpseq.serving.settings import ServerSettings

    choices = parse_model_choices(models)
    with listen(host, port) as listener:
        app = create_app(_loaded(choices), ServerSettings(timeout=timeout))
        typer.echo(f"serving on {address_of(listener)}", err=True)
        run_app(app, listener, timeout=timeout)


def _loaded(choices: Sequence[ModelChoice]) -> Mapping[tuple[Pair, Quality], Translator]:
    from sharpseq.cli.quiet import quiet_libraries
    from sharpseq.processor_threads import choose_num_threads
    from sharpseq.serving.model_loading import load_models

    quiet_libraries()
    choose_num_threads()
    return load_models(choices)
