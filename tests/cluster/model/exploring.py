"""Goes through all worlds that the model can reach, and says how a promise is broken."""

from __future__ import annotations

from typing import NamedTuple

from tests.cluster.model.protocol import Bounds, Rule, World, recovered
from tests.cluster.model.steps import folders, steps


class Explored(NamedTuple):
    """What an exploration has found."""

    worlds: int
    broken: str | None  # the promise
    path: list[World]  # that leads there


def explore(bounds: Bounds, off: frozenset[Rule] = frozenset(), most: int = 10**9) -> Explored:
    """Visit every world within the bounds once, until a promise is broken."""
    first = bounds.start()
    came_from: dict[World, World | None] = {first: None}
    content = {first: recovered(first, off)}
    waiting = [first]
    while waiting:
        world = waiting.pop()
        before = content.pop(world)
        for after in steps(world, bounds, off):
            if after in came_from:
                continue
            came_from[after] = world
            now = recovered(after, off)
            broken = judged(after, before, now, bounds)
            if broken is not None:
                return Explored(len(came_from), broken, _path(came_from, after))
            content[after] = now
            waiting.append(after)
            if len(came_from) > most:
                raise AssertionError(f"more than {most} worlds: {bounds}")
    return Explored(len(came_from), None, [])


def judged(
    world: World, before: tuple[str, ...] | None, now: tuple[str, ...] | None, bounds: Bounds
) -> str | None:
    """Which promise the world breaks; `before` and `now` are what a new start would read."""
    if before is None or now is None:
        return "the newest snapshot cannot be restored"
    if now[: len(before)] != before:
        return f"the order of writes changed from {before} to {now}"
    if len(set(now)) < len(now):
        return f"an operation counts twice: {now}"
    if bounds.local:
        return _judged_local(world, now)
    if not world.acknowledged <= set(now):
        return f"acknowledged {set(world.acknowledged)}, recovered {now}"
    for folder in folders(world):
        if now[: len(folder.content)] != folder.content:
            return f"a copy holds {folder.content}, the log and its snapshots {now}"
    return None


def _judged_local(world: World, now: tuple[str, ...]) -> str | None:
    """Copies on disks may be ahead; nothing is lost but by a lost disk or a writer elsewhere."""
    on_disks = {operation for folder in folders(world) for operation in folder.content}
    lost = world.acknowledged - world.excused - set(now) - on_disks
    if lost:
        return f"acknowledged and lost: {lost}"
    if not world.uploaded <= set(now):
        return f"said to be uploaded: {set(world.uploaded)}, recovered {now}"
    for follower in world.followers:
        if now[: len(follower.folder.content)] != follower.folder.content:
            return f"a follower holds {follower.folder.content}, the log and its snapshots {now}"
    for writer in world.writers:
        content = writer.folder.content
        common = min(len(now), len(content))
        running = writer.epoch == world.epochs and writer.state not in ("down", "start", "judge")
        if running and (now[:common] != content[:common] or len(set(content)) < len(content)):
            return f"the writer holds {content}, the log and its snapshots {now}"
    return None


def _path(came_from: dict[World, World | None], world: World) -> list[World]:
    path = [world]
    while (earlier := came_from[path[-1]]) is not None:
        path.append(earlier)
    return path[::-1]
