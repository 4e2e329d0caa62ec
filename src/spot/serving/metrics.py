"""What a server counts, for Prometheus: in a registry of its own, so that several servers of one process stay apart."""

from collections.abc import Iterator, Mapping
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
    "running_rows": "Rows that are computed or generate at this moment.",
    "prefix_bytes": "Bytes of the prompts' states that are kept in memory.",
}
COUNTERS = {
    "batches": "Forward passes.",
    "batch_rows": "Rows of all forward passes; by passes: how full they are.",
    "prefix_hits": "Rows whose prompt's states were in memory.",
    "prefix_misses": "Rows whose prompt's states had to be computed.",
    "prefix_evictions": "Prompts whose states were dropped for room.",
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
        engine: where it has an attribute `figures`, a mapping, those that `GAUGES` and `COUNTERS` name are told too.
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
        figures: Mapping[str, float] = getattr(self.engine, "figures", {})
        for name, meaning in GAUGES.items():
            if name in figures:
                yield GaugeMetricFamily(f"spot_{name}", meaning, figures[name])
        for name, meaning in COUNTERS.items():
            if name in figures:
                yield CounterMetricFamily(f"spot_{name}", meaning, figures[name])
