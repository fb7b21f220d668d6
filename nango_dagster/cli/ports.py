"""Checks of TCP ports: is one free, does a server accept connections on it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from ..errors import ConfigError


def check_free(host: str, port: int, option: str) -> None:
    """Raises ConfigError if a server cannot listen on the port; `option` sets another port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        # As servers do: a connection that was closed recently does not block the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"port {port} is in use; choose another with {option}.") from None
            reason = error.strerror or os.strerror(error.errno or 0)
            raise ConfigError(f"cannot listen on {host}:{port}: {reason}.") from None


def answers(host: str, port: int) -> bool:
    """Whether a server accepts connections on the port."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as sock:
        sock.settimeout(0.5)
        return sock.connect_ex((host, port)) == 0
