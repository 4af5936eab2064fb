"""Running the application: the port, the signals, the end."""

from __future__ import annotations

import errno
import signal
import socket

import uvicorn
from starlette.applications import Starlette

from sharpseq.errors import UserError

_BACKLOG = 1024


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


def run_app(app: Starlette, listener: socket.socket, *, timeout: float) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests that are there and return.

    Args:
        app: The application.
        listener: The socket, see `listen`.
        timeout: Seconds that requests may take; what takes longer after the signal is cut.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=int(timeout) + 5,
    )
    # uvicorn raises the signal once more when it has finished; the default would make a clean end look like a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
