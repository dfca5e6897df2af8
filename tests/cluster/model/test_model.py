"""The protocol keeps its promises in every interleaving within bounds, and each of its rules is needed."""

from __future__ import annotations

from typing import Final, NamedTuple, get_args

import pytest

from tests.cluster.model.exploring import explore
from tests.cluster.model.protocol import Bounds, Rule

TWO_STARTERS: Final = Bounds(epochs=3, late_puts=1, crashes=1, lost_disks=True)
SLEEPER: Final = Bounds(snapshots=1, collections=1, late_puts=1)
THREE_WRITERS: Final = Bounds(writers=3, epochs=3, operations=("x",), snapshots=1, collections=1)
SLOW_FOLLOWER: Final = Bounds(followers=1, operations=("x",), snapshots=1, collections=1, late_puts=1)
FOLLOWER_BEHIND_THE_LOG: Final = Bounds(writers=1, followers=1, epochs=1, snapshots=1, collections=1)
LATE_MANIFEST: Final = Bounds(operations=("x",), snapshots=2, collections=1, late_puts=1)
TWO_SNAPSHOTS: Final = LATE_MANIFEST._replace(late_puts=0, collections=2)
FOLDER_RETURNS: Final = Bounds(
    epochs=3, operations=("x",), snapshots=1, collections=1, late_puts=1, crashes=1
)
CONTENT_RETURNS: Final = Bounds(writers=1, epochs=1, operations=("x", "y", "z"), snapshots=4, collections=2)
MANIFEST_OVERTAKEN: Final = Bounds(
    writers=1, epochs=1, operations=("x",), snapshots=2, collections=2, late_puts=1
)
VOID_ENTRIES: Final = Bounds(operations=("x",), snapshots=1)
TWO_COLLECTORS: Final = Bounds(writers=3, epochs=3, operations=("x",), snapshots=2, collections=2)
LOCAL: Final = Bounds(epochs=3, local=True, crashes=1, lost_disks=True)
LOCAL_KILLED: Final = LOCAL._replace(
    writers=1, crashes=2, lost_disks=False, late_puts=1, snapshots=1, collections=1
)
LOCAL_SLEEPER: Final = Bounds(local=True, snapshots=1, collections=1)
LOCAL_FOLLOWED: Final = LOCAL_SLEEPER._replace(followers=1, crashes=1, operations=("x",))

GREEN: Final = {
    "two starters at once, a late put, a crash, a lost disk": TWO_STARTERS,
    "a sleeper wakes up after a collection": SLEEPER,
    "three writers": THREE_WRITERS,
    "a slow follower and a put that arrives after the collection": SLOW_FOLLOWER,
    "a follower behind a log that was collected": FOLLOWER_BEHIND_THE_LOG,
    "a manifest that arrives late": LATE_MANIFEST,
    "two snapshots, two collections": TWO_SNAPSHOTS,
    "a folder returns after weeks, the log being empty": FOLDER_RETURNS,
    "content that was there before": CONTENT_RETURNS,
    "entries that are void": VOID_ENTRIES,
    "a manifest that arrives after a collection": MANIFEST_OVERTAKEN,
    "durability local, a crash, a lost disk, a writer elsewhere": LOCAL,
    "durability local, killed twice": LOCAL_KILLED,
    "durability local, a sleeper": LOCAL_SLEEPER,
    "durability local, a follower": LOCAL_FOLLOWED,
}


class Needed(NamedTuple):
    """A rule, and where its absence shows; `beside` is another line of defence that has to be off as well."""

    rule: Rule
    bounds: Bounds
    beside: frozenset[Rule] = frozenset()


NEEDED: Final = [
    Needed("look before acknowledging", SLEEPER),
    Needed("look before applying", SLEEPER),
    Needed("look before replaying", THREE_WRITERS),
    Needed("look after claiming", THREE_WRITERS),
    Needed("look before following", SLOW_FOLLOWER),
    Needed("look before removing", SLEEPER),
    Needed("list before looking", TWO_SNAPSHOTS),
    Needed("void entries", VOID_ENTRIES, frozenset({"look after claiming"})),
    Needed("newest snapshot at the start", SLEEPER),
    Needed("nothing read below the snapshot", VOID_ENTRIES),
    Needed("nothing created below the snapshot", VOID_ENTRIES),
    Needed("contiguous entries", FOLLOWER_BEHIND_THE_LOG),
    Needed("own operation recognised", TWO_STARTERS),
    Needed("operations count once", TWO_STARTERS),
    Needed("manifest last", VOID_ENTRIES, frozenset({"complete manifests only"})),
    Needed("complete manifests only", LATE_MANIFEST, frozenset({"one's own last snapshot"})),
    Needed("a snapshot of one's own epoch", TWO_COLLECTORS),
    Needed("one's own last snapshot", MANIFEST_OVERTAKEN),
    Needed("names are not used again", CONTENT_RETURNS),
    Needed("abandoned copies are dropped", LOCAL),
    Needed("what was kept is uploaded before the claim", LOCAL_KILLED),
    Needed("look after uploading", LOCAL_SLEEPER),
    Needed("uploaded in order", LOCAL),
]


@pytest.mark.parametrize("bounds", GREEN.values(), ids=GREEN)
def test_every_promise_holds_in_every_interleaving(bounds: Bounds) -> None:
    explored = explore(bounds)
    assert explored.broken is None, "\n".join(map(str, explored.path))
    assert explored.worlds > 100


@pytest.mark.parametrize("needed", NEEDED, ids=[needed.rule for needed in NEEDED])
def test_each_rule_is_needed(needed: Needed) -> None:
    explored = explore(needed.bounds, needed.beside | {needed.rule})
    assert explored.broken is not None


@pytest.mark.parametrize(
    "needed", [needed for needed in NEEDED if needed.beside], ids=lambda needed: needed.rule
)
def test_a_second_line_of_defence_holds_by_itself(needed: Needed) -> None:
    assert explore(needed.bounds, needed.beside).broken is None


def test_every_rule_has_its_test() -> None:
    assert [needed.rule for needed in NEEDED] == list(get_args(Rule))


@pytest.mark.torture
@pytest.mark.parametrize(
    "bounds",
    [
        TWO_COLLECTORS,
        TWO_STARTERS._replace(late_puts=2, crashes=2),
        SLOW_FOLLOWER._replace(epochs=3),
        SLEEPER._replace(epochs=3, snapshots=2, collections=2),
        CONTENT_RETURNS._replace(writers=2, epochs=2, operations=("x", "y"), snapshots=3),
        LOCAL._replace(late_puts=1, snapshots=1),
        LOCAL._replace(writers=3, crashes=0, snapshots=1, collections=1),
    ],
    ids=lambda bounds: str(bounds),
)
def test_every_promise_holds_further_out(bounds: Bounds) -> None:
    test_every_promise_holds_in_every_interleaving(bounds)
