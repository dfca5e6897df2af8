"""The state of clusters as gauges: how far shards and their copies have come, and the hosts that Ray runs."""

from __future__ import annotations

from typing import Final

from prometheus_client.core import GaugeMetricFamily

from mrlstore.cluster import ShardedStore

_SHARD: Final = ("index", "shard")
_COPY: Final = ("index", "shard", "host")
_HOST: Final = ("index", "host", "node")


class ClusterGauges:
    """Collects the figures of one scrape."""

    def __init__(self) -> None:
        self.place = GaugeMetricFamily(
            "mrlstore_shard_place", "The place of its log that the copy which was asked has.", labels=_SHARD
        )
        self.epoch = GaugeMetricFamily(
            "mrlstore_shard_epoch",
            "The epoch of its writer: one more for each writer.",
            labels=_SHARD,
        )
        self.lag = GaugeMetricFamily(
            "mrlstore_copy_lag", "Places of the log that a copy is behind the one furthest on.", labels=_COPY
        )
        self.up = GaugeMetricFamily("mrlstore_host_up", "1 for a host that answers.", labels=_HOST)
        self.restarts = GaugeMetricFamily(
            "mrlstore_host_restarts",
            "Other processes in the place of the host, since the controller began.",
            labels=_HOST,
        )

    def add(self, index: str, store: ShardedStore) -> None:
        """The figures of one cluster."""
        for one in store.stats().shards:
            self.place.add_metric((index, str(one.shard)), one.place)
            self.epoch.add_metric((index, str(one.shard)), one.epoch)
        view = store.hosts()
        for host in () if view is None else view.hosts:
            names = (index, str(host.number), host.node)
            self.up.add_metric(names, not host.silent)
            self.restarts.add_metric(names, host.restarts)
            for shard in host.shards:
                lag = 0 if view is None else view.lag(host, shard)
                self.lag.add_metric((index, str(shard), str(host.number)), lag)

    def families(self) -> tuple[GaugeMetricFamily, ...]:
        """All gauges that have a figure."""
        found = (self.place, self.epoch, self.lag, self.up, self.restarts)
        return tuple(family for family in found if family.samples)
