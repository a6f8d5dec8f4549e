"""What a fuzzer looks for."""


class FindingError(Exception):
    """Something that must never happen did; `method` and `data` are what it happened with."""

    def __init__(self, what: str, method: str = "", data: bytes = b"") -> None:
        super().__init__(what)
        self.what, self.method, self.data = what, method, data
