"""Running the application: the port, worker processes, signals, the end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from sharpseq.errors import UserError
from sharpseq.serving.app import create_app
from sharpseq.serving.logs import write_logs
from sharpseq.serving.model_choice import ModelChoice
from sharpseq.serving.prometheus_metrics import PROCESSES_FOLDER
from sharpseq.serving.server_settings import ServerSettings

_BACKLOG = 1024
_HUNG_SECONDS = 60
_AFTER_TIMEOUT = 5


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Name or address of the interface.
        port: The port; 0 for a free one.

    Raises:
        UserError: If the port is in use or may not be used, or the host is not one of this machine.
    """
    listener = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise UserError(f"{host}:{port}: {_reason(error)}") from error
    return listener


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop what uses it or give another --port"
    if error.errno == errno.EACCES:
        return "this user may not use the port; give a --port from 1024 on"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; give another --host, such as 127.0.0.1"
    return str(error.strerror or error)


def address_of(listener: socket.socket) -> str:
    """Return where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True)
class AppFactory:
    """Makes the application in the process that runs it.

    Args:
        choices: The models.
        settings: What the operator chose.
        prepare: Called before models are loaded.
        is_quiet: Whether only warnings and errors are logged.
    """

    choices: Sequence[ModelChoice]
    settings: ServerSettings
    prepare: Callable[[], None]
    is_quiet: bool = False

    def __call__(self) -> Starlette:
        """Load the models and return the application.

        Raises:
            UserError: If a model cannot be loaded.
        """
        from sharpseq.processor_threads import choose_num_threads
        from sharpseq.serving.served_models import load_models

        write_logs(is_quiet=self.is_quiet)
        self.prepare()
        choose_num_threads()
        return create_app(load_models(self.choices), self.settings)

    def in_worker(self) -> Starlette:
        """Do the same in a worker process, where a user's mistake ends all of them."""
        try:
            return self()
        except (UserError, ImportError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            sys.exit(STARTUP_FAILURE)


def run_app(app: Starlette, listener: socket.socket, *, timeout: float, trusted_proxies: Sequence[str] = ()) -> None:
    """Serve in this process until SIGTERM or SIGINT; then finish the requests that are there and return.

    Args:
        app: The application.
        listener: The socket, see `listen`.
        timeout: Seconds that requests may take; what takes longer after the signal is cut.
        trusted_proxies: Addresses of proxies that say where a request comes from.
    """
    config = _configuration(app, timeout=timeout, trusted_proxies=trusted_proxies)
    # uvicorn raises the signal once more when it has finished; the default would make a clean end look like a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])


def run_workers(
    factory: AppFactory, listener: socket.socket, *, num_workers: int, trusted_proxies: Sequence[str] = ()
) -> None:
    """Serve in several processes, each with its own models, until SIGTERM or SIGINT; one that dies is started again.

    Args:
        factory: Makes the application.
        listener: The socket that they share, see `listen`.
        num_workers: How many.
        trusted_proxies: See `run_app`.

    Raises:
        UserError: If the workers cannot start; they have said why.
    """
    settings = {"workers": num_workers, "factory": True, "timeout_worker_healthcheck": _HUNG_SECONDS}
    with TemporaryDirectory(prefix="sharpseq-metrics-") as folder:
        os.environ[PROCESSES_FOLDER] = folder
        config = _configuration(
            factory.in_worker, timeout=factory.settings.timeout, trusted_proxies=trusted_proxies, **settings
        )
        write_logs(is_quiet=factory.is_quiet)
        supervisor = _Workers(config, [listener])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise UserError("the worker processes could not start; see above")


class _Workers(Multiprocess):
    def init_processes(self) -> None:
        super().init_processes()
        for process in self.processes:
            # Now that only the worker holds its end, a worker that cannot start is noticed when it ends.
            process.child_conn.close()


def _configuration(app: Any, *, timeout: float, trusted_proxies: Sequence[str], **settings: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=int(timeout) + _AFTER_TIMEOUT,
        **settings,
    )
