"""Bytes at the port: nonsense, and HTTP/2 that is nearly right."""

import contextlib
import random

from tests.fuzz.corpus import METHODS, path_of
from tests.fuzz.mutator import Mutator
from tests.security import http2

ANSWER_SECONDS = 0.02


class Port:
    """Strangers who connect, say something, and leave."""

    def __init__(self, addresses: list[str], token: str, source: random.Random) -> None:
        self._addresses, self._token, self._random = addresses, token, source
        self._mutator = Mutator(source)

    def disturb(self, message: bytes) -> bytes:
        """One connection; gives what was said."""
        said = self._words(message)
        with contextlib.suppress(OSError), http2.connect(self._random.choice(self._addresses)) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(said)
            if self._random.random() < 0.3:
                connection.recv(4096)
        return said

    def _words(self, message: bytes) -> bytes:
        pick = self._random
        if pick.random() < 0.15:
            return pick.randbytes(pick.choice((1, 9, 24, 200, 5000)))
        method = path_of(pick.choice(list(METHODS)))
        token = pick.choice((self._token, self._token, "wrong", None))
        frames = [http2.request(1 + 2 * n, method, message, token=token) for n in range(pick.choice((1, 1, 3)))]
        odd = http2.frame(pick.randrange(16), pick.randbytes(pick.choice((0, 4, 8, 40))), flags=pick.randrange(256))
        frames.insert(pick.randrange(len(frames) + 1), odd)
        opening, rest = http2.hello([(pick.randrange(9), pick.getrandbits(32))] * pick.randrange(3)), b"".join(frames)
        if pick.random() < 0.4:
            return opening + rest
        if pick.random() < 0.7:
            return opening + self._mutator.changed_bytes(rest)
        return self._mutator.changed_bytes(opening + rest)
