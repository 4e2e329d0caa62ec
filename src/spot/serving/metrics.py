"""What a server counts, for Prometheus: in a registry of its own, so that several servers of one process stay apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spot.serving.extra import missing_extra
from spot.serving.requests import Catalogue, Engine

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise missing_extra("prometheus-client") from error

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
GAUGES = {
    "waiting_rows": "Rows that wait for their turn.",
    "streams": "Rows that generate at this moment.",
    "prefix_bytes": "Bytes of the prompts' states that are kept in memory.",
}
COUNTERS = {
    "batches": "Forward passes that ranked labels.",
    "batch_rows": "Rows of these passes; divided by the passes: how full they are.",
    "steps": "Forward passes that made a token of each of their rows.",
    "step_rows": "Rows of these passes.",
    "prefix_hits": "Times that a prompt's states were in memory.",
    "prefix_misses": "Times that they had to be computed.",
}


@dataclass(frozen=True)
class Metrics:
    """What is counted.

    Attributes:
        registry: of all metrics.
        requests: by route and status.
        seconds: of requests, by route.
        rows: by what was asked for, `classify` or `generate`.
        input_tokens: of rows, those of soft prompts not counted.
        output_tokens: that were generated.
        refused: by the code of the refusal.
    """

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram
    rows: Counter
    input_tokens: Counter
    output_tokens: Counter
    refused: Counter

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self.registry)


def metrics_of(catalogue: Catalogue, engine: Engine) -> Metrics:
    """The metrics of a server.

    Args:
        catalogue: says how many prompts are served and passed over.
        engine: says what it has done and holds.
    """
    registry = CollectorRegistry(auto_describe=True)
    registry.register(_Figures(catalogue, engine))
    return Metrics(
        registry=registry,
        requests=Counter("spot_requests", "Requests answered.", ["route", "status"], registry=registry),
        seconds=Histogram("spot_request_seconds", "Time of requests.", ["route"], buckets=SECONDS, registry=registry),
        rows=Counter("spot_rows", "Rows asked for.", ["kind"], registry=registry),
        input_tokens=Counter("spot_input_tokens", "Tokens of rows, without soft prompts.", registry=registry),
        output_tokens=Counter("spot_output_tokens", "Tokens generated.", registry=registry),
        refused=Counter("spot_refused", "Requests refused.", ["reason"], registry=registry),
    )


@dataclass(frozen=True, eq=False)
class _Figures(Collector):
    """Reads what catalogue and engine say of themselves, whenever metrics are asked for."""

    catalogue: Catalogue
    engine: Engine

    def collect(self) -> Iterator[Any]:
        """Each figure."""
        served = sum(model.entry is not None for model in self.catalogue.served())
        yield GaugeMetricFamily("spot_prompts_served", "Prompts that requests may name.", served)
        passed_over = len(self.catalogue.problems)
        yield GaugeMetricFamily("spot_prompts_passed_over", "Prompts that cannot be served.", passed_over)
        yield GaugeMetricFamily("spot_ready", "Whether rows can be answered.", float(self.engine.is_ready))
        load = self.engine.load
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"spot_{name}", meaning, getattr(load, name))
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"spot_{name}", meaning, getattr(load, name))
