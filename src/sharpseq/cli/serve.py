"""``sharpseq serve``: a translation server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpseq.errors import UserError


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
    workers: Annotated[int, typer.Option(help="Processes, each with its own models and limits.", min=1)] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.", min=0.1, max=3600)] = 30.0,
    max_batch: Annotated[int, typer.Option(help="Sentences of a batch.", min=1)] = 32,
    max_wait: Annotated[
        float, typer.Option(help="Milliseconds that an idle model waits for more sentences.", min=0, max=1000)
    ] = 5.0,
    max_queue: Annotated[int, typer.Option(help="Sentences that wait at most; more are refused.", min=1)] = 4096,
    max_requests: Annotated[int, typer.Option(help="Requests at the same time; more are refused.", min=1)] = 200,
    char_limit: Annotated[int, typer.Option(help="Characters of a request; 0 for no limit.", min=0)] = 20_000,
    body_limit: Annotated[int, typer.Option(help="Bytes of a request.", min=1)] = 2_097_152,
    requests_per_minute: Annotated[
        float | None, typer.Option(help="Requests a minute of an API key, or of an address without.", min=1)
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="API keys, one of which requests must have: KEY or KEY RATE on each line."),
    ] = None,
    detect: Annotated[bool, typer.Option("--detect", help="Detect languages; needs sharpseq[detect].")] = False,
    files: Annotated[bool, typer.Option("--files/--no-files", help="Whether files of text are translated.")] = True,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Proxy whose X-Forwarded-For says where a request comes from."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log only warnings and errors.")] = False,
) -> None:
    """Serve models over HTTP with LibreTranslate's API, batching across requests.

    Logs go to standard error, a JSON object a line. SIGTERM ends the server when the requests that it has are answered.
    """
    try:
        from sharpseq.serving.admission import read_api_keys
        from sharpseq.serving.batching import BatchLimits
        from sharpseq.serving.model_choice import parse_model_choices
        from sharpseq.serving.server import AppFactory, address_of, listen, run_app, run_workers
        from sharpseq.serving.server_settings import ServerSettings
    except ImportError as error:
        raise UserError(f"serving needs the package `{error.name}`: pip install 'sharpseq[serve]'") from error
    from tempfile import TemporaryDirectory

    from sharpseq.cli.quiet import quiet_libraries

    choices = parse_model_choices(models)
    keys = None if api_keys is None else read_api_keys(api_keys)
    proxies = trusted_proxy or []
    with listen(host, port) as listener, TemporaryDirectory(prefix="sharpseq-files-") as folder:
        settings = ServerSettings(
            batches=BatchLimits(max_batch=max_batch, max_wait=max_wait / 1000, max_queue=max_queue),
            timeout=timeout,
            char_limit=char_limit or None,
            body_limit=body_limit,
            max_requests=max_requests,
            requests_per_minute=requests_per_minute,
            api_keys=keys,
            detects=detect,
            files_folder=Path(folder) if files else None,
        )
        factory = AppFactory(choices, settings, quiet_libraries, is_quiet=quiet)
        if workers > 1:
            typer.echo(f"{workers} processes serve on {address_of(listener)}")
            run_workers(factory, listener, num_workers=workers, trusted_proxies=proxies)
            return
        try:
            app = factory()
        except ImportError as error:
            raise UserError(str(error)) from error
        typer.echo(f"serving on {address_of(listener)}")
        run_app(app, listener, timeout=timeout, trusted_proxies=proxies)
