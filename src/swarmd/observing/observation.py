"""Observation: all that operators asked to see of one daemon, from its start to its end. Made by the daemon."""

from typing import TYPE_CHECKING

from swarmd.addresses import Address
from swarmd.loggers import get_logger
from swarmd.observing.observer import Observer, together

if TYPE_CHECKING:
    from swarmd.observing.endpoint import MetricsEndpoint
    from swarmd.observing.metrics import Metrics
    from swarmd.observing.page import Page
    from swarmd.observing.standing import Sources
    from swarmd.observing.tracing import Tracing

log = get_logger("swarmd.daemon")

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Observation:
    """Metrics and traces as far as they are on; what is off is not even imported."""

    def __init__(
        self, *, metrics: str | None = None, otlp_endpoint: str | None = None, log_calls: bool = False
    ) -> None:
        """`metrics`: HOST:PORT to be read at. `otlp_endpoint`: the URL of a collector. `log_calls`: a line for each.

        Raises InvalidInputError for an endpoint that cannot be used, or when the extra for traces is missing.
        """
        self._where = metrics
        self._metrics: Metrics | None = None
        self._page: Page | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._tracing: Tracing | None = None
        observers: list[Observer] = []
        if metrics is not None:
            from swarmd.observing import metrics as counting

            self._metrics = counting.Metrics()
            observers.append(self._metrics)
        if otlp_endpoint is not None:
            from swarmd.observing import tracing

            self._tracing = tracing.Tracing(tracing.exporter_for(otlp_endpoint))
            observers.append(self._tracing)
        if log_calls:
            from swarmd.observing.calls import CallLog

            observers.append(CallLog())
        self.observer = together(observers)
        """To be told of everything."""
        self.address: Address | None = None
        """Where metrics are read, once it has started."""

    async def start(self, sources: "Sources") -> None:
        """Let metrics be read, and send spans. Raises InvalidInputError or UnavailableError for its address."""
        if self._metrics is not None and self._where is not None:
            from swarmd.observing.endpoint import MetricsEndpoint
            from swarmd.observing.page import CONTENT_TYPE, Page

            self._page = Page(self._metrics, sources)
            self._endpoint = MetricsEndpoint(self._page.capture, CONTENT_TYPE)
            self.address = await self._endpoint.listen(self._where)
            log.info("metrics", url=f"http://{self.address}/metrics")
            if self.address.host not in LOOPBACK:
                log.warning(
                    "metrics are for everybody who can reach this address: they tell the names of swarms and arrays",
                    address=str(self.address),
                )
        if self._tracing is not None:
            self._tracing.start()

    def metrics_text(self) -> str | None:
        """The metrics page as it is now; None when they are off."""
        return None if self._page is None else self._page.capture()().decode()

    async def close(self) -> None:
        """Stop listening, and send the last spans."""
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._tracing is not None:
            await self._tracing.close()
