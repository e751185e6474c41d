"""A port for a server of another program, which has to be told one."""

from __future__ import annotations

import socket
import sys


class KeptPort:
    """A free port of the loopback, which no other program is given before the server has it.

    On Linux a socket stays bound to it and does not listen: whoever asks for any free port gets
    another one, also while the server is down, and a server, which reuses addresses, may listen
    there all the same. Elsewhere it is only free.

    Attributes:
        port: Its number.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self.close()

    def close(self) -> None:
        """Let others have it."""
        self._socket.close()
