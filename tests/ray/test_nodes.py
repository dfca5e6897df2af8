"""Where hosts run and which shards they have: labels, moves, drains, nodes that are lost and added."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray

import mrlstore
from mrlstore import cluster
from mrlstore.cli import main
from mrlstore.cluster.ray_engine.actors import NAMESPACE, chosen_nodes, controller_name
from tests.oracle import nested_vectors
from tests.ray.conftest import DIM, SHARDS, Nodes
from tests.ray.hosts import connected, nodes_of, seen

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def answers(store: cluster.ShardedStore) -> list[Any]:
    found = [store.query(vector, 5, exact=True) for vector in nested_vectors(20, DIM, seed=3)]
    return [(one.ids, one.scores.tolist()) for one in found]


def writers(view: cluster.ClusterView) -> dict[int, int | None]:
    return {shard: view.writer(shard) for shard in range(SHARDS)}


def test_wishes_about_nodes_are_dropped_where_none_would_be_left() -> None:
    def node(name: str, cpus: int, *, alive: bool = True, **labels: str) -> dict[str, Any]:
        return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpus} if cpus else {}, "Labels": labels}

    nodes = [node("d", 4, disk="nvme"), node("head", 0), node("c", 2), node("gone", 8, alive=False)]

    def names(cpus: float = 1.0, drained: tuple[str, ...] = (), **labels: str) -> list[str]:
        return [one.name for one in chosen_nodes(nodes, cpus, labels, drained)]

    assert names() == ["c", "d"]
    assert names(disk="nvme") == ["d"]
    assert names(disk="tape") == ["c", "d"]
    assert names(drained=("d",), disk="nvme") == ["c"]
    assert names(drained=("c", "d", "head")) == ["c", "d"]
    assert names(cpus=16.0) == ["c", "d", "head"]


def test_hosts_follow_labels_moves_and_drains(
    home: Path, disks: Path, nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(mrlstore.ShardUnavailable, match="no hosts run"):
        cluster.hosts(home)
    with connected(home, labels={"disk": "nvme"}) as store:
        store.upsert([f"r{number}" for number in range(100)], nested_vectors(100, DIM))
        before = answers(store)
        cluster.wait_until_whole(home)
        view = seen(home, lambda now: None not in writers(now).values())
        assert nodes_of(view) == ["a", "b"] and view.nodes == ("a", "b")

        shard = 2
        writer = next(host for host in view.hosts if host.number == view.writer(shard))
        other = next(host.node for host in view.hosts if host.node != writer.node)
        assert main(["cluster", "move", str(home), str(shard), other]) == 0
        view = cluster.hosts(home)
        assert next(host.node for host in view.hosts if host.number == view.writer(shard)) == other
        with pytest.raises(mrlstore.InvalidInput, match="none of the nodes"):
            cluster.move(home, shard, "z")

        drained = view.hosts[0].node
        capsys.readouterr()
        assert main(["cluster", "drain", str(home), drained, "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert [host["node"] for host in printed["hosts"]] == sorted({"a", "b"} - {drained})
        assert answers(store) == before and store.count() == 100
        with pytest.raises(mrlstore.InvalidInput, match="the only one"):
            cluster.drain(home, printed["hosts"][0]["node"])

        nodes.lose(printed["hosts"][0]["node"], disks)  # no node with the label is left that is not drained
        view = seen(home, lambda now: nodes_of(now) == ["c"])
        assert answers(store) == before and store.upsert(["new"], nested_vectors(1, DIM)) == 1
        cluster.drain(home, drained, undo=True)
        seen(home, lambda now: nodes_of(now) == [drained])
        assert store.count() == 101


def test_a_successor_writes_though_nobody_asks_and_a_node_that_is_added_gets_shards(
    home: Path, disks: Path, nodes: Nodes
) -> None:
    nodes.lose("c", disks)
    with connected(home) as store:
        store.upsert([f"r{number}" for number in range(100)], nested_vectors(100, DIM))
        cluster.wait_until_whole(home)
        view = seen(home, lambda now: None not in writers(now).values())
        frozen = next(host for host in view.hosts if host.number == view.writer(0))
        os.kill(frozen.process, signal.SIGSTOP)
        try:
            view = seen(home, lambda now: frozen.number not in writers(now).values())
            assert next(host for host in view.hosts if host.number == frozen.number).silent
            assert store.count() == 100
        finally:
            os.kill(frozen.process, signal.SIGCONT)
        nodes.add("c")
        seen(home, lambda now: nodes_of(now) == ["a", "b", "c"])
        seen(home, lambda now: any(host.node == "c" and host.shards for host in now.hosts))
        view = cluster.wait_until_whole(home)

        ray.kill(ray.get_actor(controller_name(store.home), namespace=NAMESPACE), no_restart=False)
        again = seen(home, lambda now: nodes_of(now) == ["a", "b", "c"])
        assert writers(again) == writers(view)
        assert {host.process for host in again.hosts} == {host.process for host in view.hosts}


def test_commands_show_start_and_end_hosts(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(home.parent / "disks" / "{node}")
    wanted = ["--hosts", "2", "--num-cpus", "0.1", "--folder", folder, "--label", "disk=nvme"]
    assert main(["cluster", "up", str(home), *wanted]) == 0
    printed = capsys.readouterr().out
    assert "host 0 on a: answers, 0 restarts" in printed and "shard 3: copy" in printed
    assert main(["cluster", "hosts", str(home), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["nodes"] == ["a", "b"] and [len(host["shards"]) for host in found["hosts"]] == [SHARDS] * 2
    assert main(["cluster", "down", str(home)]) == 0
    assert "Ended 2 hosts" in capsys.readouterr().out
    assert main(["cluster", "hosts", str(home)]) != 0
    assert "no hosts run" in capsys.readouterr().err
