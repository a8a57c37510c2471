"""/metrics of the operator itself and of the devices it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frostline_operator.kubernetes.fleet import ClassUse


class FleetCollector(Collector):
    """Devices by memory class.

    Args:
        read: every class and who holds its devices; from caches, since it is asked at each scrape.
    """

    def __init__(self, read: Callable[[], Iterable[ClassUse]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """All series."""
        label = ("memory_class",)
        devices = GaugeMetricFamily("frostline_memory_class_devices", "Devices of a memory class", labels=label)
        busy = GaugeMetricFamily("frostline_memory_class_devices_busy", "Devices that some pod holds", labels=label)
        ours = GaugeMetricFamily("frostline_memory_class_devices_held", "Devices that studies hold", labels=label)
        usable = GaugeMetricFamily(
            "frostline_memory_class_usable_bytes", "Bytes of one device that a run may use", labels=label
        )
        for found in self._read():
            devices.add_metric([found.name], float(found.devices))
            busy.add_metric([found.name], float(min(found.devices, found.held + found.foreign)))
            ours.add_metric([found.name], float(found.held))
            if found.usable_bytes is not None:
                usable.add_metric([found.name], float(found.usable_bytes))
        yield from (devices, busy, ours, usable)
