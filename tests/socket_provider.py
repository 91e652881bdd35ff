"""A provider on loopback that speaks over a WebSocket what a test scripts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

Script = Callable[["Peer"], None]


class Peer:
    """The provider's side of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    def say(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.connection.send(json.dumps(event))

    def hear(self) -> dict[str, Any]:
        """The program's next message."""
        heard: dict[str, Any] = json.loads(self.connection.recv(timeout=10))
        return heard

    def wait(self) -> None:
        """Until the program closes the connection; what it says is passed over."""
        try:
            while True:
                self.connection.recv(timeout=10)
        except ConnectionClosed:
            pass

    def break_off(self) -> None:
        """The connection is lost, without a word."""
        self.connection.socket.shutdown(2)


def following(messages: Iterable[dict[str, Any]], then: Script = Peer.wait) -> Script:
    """The provider's side of a session: each message is `received` by the program, or `sent` by it."""

    def script(peer: Peer) -> None:
        for message in messages:
            if "sent" in message:
                peer.hear()
            else:
                peer.say(message["received"])
        then(peer)

    return script


class SocketProvider:
    """`with SocketProvider() as p: p.play(script)`: each connection has the next script, the last one stays."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.paths: list[str] = []
        self.server = serve(self._serve, "127.0.0.1", 0, compression=None, max_size=None)
        self.host = f"127.0.0.1:{self.server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def play(self, *scripts: Script) -> None:
        self.scripts = list(scripts)

    def __enter__(self) -> SocketProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join(10)

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            script(Peer(connection))
        except ConnectionClosed:
            pass
