"""What the processes of the model may do next; each rule that is in `off` is left out."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cluster.model.protocol import (
    Bounds,
    Entry,
    Folder,
    Follower,
    Manifest,
    PartName,
    Removal,
    Rule,
    World,
    Writer,
    arrivals,
    entry_at,
    newest,
    recovered,
    restored,
    with_entry,
)

Off = frozenset[Rule]
QUEUED = 2  # operations that may be acknowledged and not uploaded


def steps(world: World, bounds: Bounds, off: Off) -> Iterator[World]:
    """All worlds that are one step away."""
    yield from arrivals(world)
    for number, writer in enumerate(world.writers):
        for after, changed in _writer_steps(world, writer, bounds, off):
            writers = tuple(
                sorted((*world.writers[:number], changed, *world.writers[number + 1 :]), key=hash)
            )
            yield after._replace(writers=writers)
    for number, follower in enumerate(world.followers):
        for moved in _follower_steps(world, follower, off):
            yield world._replace(followers=(*world.followers[:number], moved, *world.followers[number + 1 :]))


def _writer_steps(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    if writer.state == "down":
        if world.epochs < bounds.epochs:
            begun = world._replace(epochs=world.epochs + 1)
            if bounds.local:
                begun = _excusing(begun, writer.folder)
            yield begun, Writer("start", world.epochs + 1, writer.folder, queue=writer.queue)
        return
    if world.crashes < bounds.crashes:
        crashed = world._replace(crashes=world.crashes + 1)
        yield crashed, _stopped(writer)
        if bounds.lost_disks and writer.folder.mark:
            yield _excusing(crashed, Folder()) if bounds.local else crashed, Writer()
    yield from _STEPS[writer.state](world, writer, bounds, off)


def _excusing(world: World, folder: Folder) -> World:
    """What is neither in object storage nor in this folder may be lost: it is, or was, on another disk."""
    safe = {*(recovered(world, frozenset()) or ()), *folder.content}
    return world._replace(excused=world.excused | (world.acknowledged - safe))


def _stopped(writer: Writer) -> Writer:
    """It stops for good: whoever is started in its place has its folder."""
    return Writer(folder=writer.folder, queue=writer.queue)


def _start(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Look for the newest snapshot; restore it if the folder is behind."""
    manifest = newest(world, off)
    folder = writer.folder
    if manifest is not None and manifest.mark > folder.mark and "newest snapshot at the start" not in off:
        if "complete manifests only" in off and not manifest.parts <= world.parts:
            return  # it hangs: what the recovery finds is judged in `recovered`
        folder, writer = restored(manifest), writer._replace(queue=())
    if "nothing read below the snapshot" in off and (below := _lowest(world)) is not None:
        folder = folder._replace(mark=min(folder.mark, below - 1))
    state = "judge" if bounds.local else "read"
    yield world, writer._replace(state=state, folder=folder, found=manifest if bounds.local else None)


def _lowest(world: World) -> int | None:
    return min((entry.place for entry in world.log), default=None)


def _judge(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Drop the folder if a later epoch than its own has claimed the log or shipped."""
    manifest, folder = writer.found, writer.folder
    behind = [entry for entry in world.log if manifest is None or entry.place > manifest.mark]
    epochs = [entry.epoch for entry in behind] + ([] if manifest is None else [manifest.epoch])
    queue = writer.queue
    if max(epochs, default=0) > folder.claimed and "abandoned copies are dropped" not in off:
        folder, queue = (Folder() if manifest is None else restored(manifest)), ()
    yield world, writer._replace(state="read", folder=folder, queue=queue)


def _read(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Read the next entry; behind the last one the log is to be claimed."""
    entry = entry_at(world, writer.folder.mark + 1)
    if entry is None:
        higher = [one for one in world.log if one.place > writer.folder.mark]
        if higher and "contiguous entries" not in off:
            yield world, writer._replace(state="start")
        elif higher:
            yield world, writer._replace(state="replay", entry=min(higher))
        elif writer.queue and "what was kept is uploaded before the claim" not in off:
            yield from _upload(world, writer, bounds, off)
        else:
            yield world, writer._replace(state="claim")
    else:
        yield world, writer._replace(state="replay", entry=entry)


def _replay(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Apply what was read, unless a later epoch has begun: the entry may then lie below a snapshot."""
    assert writer.entry is not None
    if world.epochs > writer.epoch and "look before replaying" not in off:
        yield world, _stopped(writer)
        return
    folder = with_entry(writer.folder, writer.entry, off)
    yield world, writer._replace(state="read", folder=folder, entry=None)


def _claim(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    place = writer.folder.mark + 1
    if "nothing created below the snapshot" in off:
        place = max((entry.place for entry in world.log), default=0) + 1
    if entry_at(world, place) is not None:
        yield world, writer._replace(state="read")
        return
    entry = Entry(place, writer.epoch, None)
    yield world._replace(log=world.log | {entry}), writer._replace(state="claimed", entry=entry)


def _claimed(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    assert writer.entry is not None
    if world.epochs > writer.epoch and "look after claiming" not in off:
        yield world, _stopped(writer)
        return
    folder = with_entry(writer.folder, writer.entry, off)
    yield world, writer._replace(state="serving", folder=folder, entry=None)


def _serving(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Take an operation that no client has been told to be done, ship a snapshot, or collect."""
    for operation in bounds.operations:
        if operation in world.acknowledged:
            continue
        if operation in writer.folder.content and "operations count once" not in off:
            yield world._replace(acknowledged=world.acknowledged | {operation}), writer
        elif bounds.local:
            if len(writer.queue) < QUEUED:
                yield _acknowledged_at_once(world, writer, operation, off)
        else:
            yield from _append(world, writer._replace(operation=operation), bounds, off)
    shipped = writer.folder.base == _part_name(writer, off)  # no name is put twice
    if writer.queue:
        yield from _upload(world, writer, bounds, off)
        return  # a snapshot waits for the log
    if world.snapshots < bounds.snapshots and not shipped:
        yield world._replace(snapshots=world.snapshots + 1), _snapshot_begun(writer, off)
    if world.collections < bounds.collections:
        for after, changed in _found(world, writer, off):
            yield after._replace(collections=after.collections + 1), changed


def _acknowledged_at_once(world: World, writer: Writer, operation: str, off: Off) -> tuple[World, Writer]:
    """With `local` the folder has it, and its log place is created later."""
    entry = Entry(writer.folder.mark + 1, writer.epoch, operation)
    changed = writer._replace(folder=with_entry(writer.folder, entry, off), queue=(*writer.queue, entry))
    lost: frozenset[str] = frozenset({operation} if world.epochs > writer.epoch else ())
    told = world._replace(acknowledged=world.acknowledged | {operation}, excused=world.excused | lost)
    return told, changed


def _upload(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Create the log place of what was acknowledged first; a place that another has ends the writer."""
    entry = writer.queue[-1 if "uploaded in order" in off else 0]
    there = entry_at(world, entry.place)
    if there is not None and there != entry:
        yield world, _stopped(writer)
        return
    done = writer._replace(state="uploaded", entry=entry)
    yield world._replace(log=world.log | {entry}), done
    if there is None and world.late_puts < bounds.late_puts:
        late = world._replace(late_puts=world.late_puts + 1)
        yield late._replace(late=world.late | {entry}), writer


def _uploaded(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    if world.epochs > writer.epoch and "look after uploading" not in off:
        yield world, _stopped(writer)
        return
    left = tuple(entry for entry in writer.queue if entry != writer.entry)
    began = writer.folder.claimed == writer.epoch
    assert writer.entry is not None and writer.entry.operation is not None
    told = world._replace(uploaded=world.uploaded | {writer.entry.operation})
    yield told, writer._replace(state="serving" if began else "read", entry=None, queue=left)


def _append(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Create the next log place, or learn who has it."""
    assert writer.operation is not None
    place = writer.folder.mark + 1
    entry, there = Entry(place, writer.epoch, writer.operation), entry_at(world, place)
    if there is None:
        yield world._replace(log=world.log | {entry}), writer._replace(state="appended")
        if world.late_puts < bounds.late_puts:
            late = world._replace(late_puts=world.late_puts + 1)
            unsure = writer._replace(state="unsure")
            yield late._replace(late=world.late | {entry}), unsure
            yield late._replace(log=world.log | {entry}), unsure
    elif there == entry and "own operation recognised" not in off:
        yield world, writer._replace(state="appended")
    elif there.epoch > writer.epoch:
        yield world, _stopped(writer)
    else:  # void; or its own, taken for another's
        passed = with_entry(writer.folder, there, off) if there.epoch == writer.epoch else writer.folder
        yield world, writer._replace(state="unsure", folder=passed._replace(mark=place))


def _appended(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    """Look whether a later epoch has begun; if not, apply and acknowledge."""
    operation = writer.operation
    assert operation is not None
    later = world.epochs > writer.epoch
    folder = with_entry(writer.folder, Entry(writer.folder.mark + 1, writer.epoch, operation), off)
    if later and "look before acknowledging" not in off:
        yield world, Writer(folder=folder if "look before applying" in off else writer.folder)
        return
    told = world._replace(acknowledged=world.acknowledged | {operation})
    yield told, writer._replace(state="serving", folder=folder, operation=None)


def _snapshot_begun(writer: Writer, off: Off) -> Writer:
    folder = writer.folder
    name = _part_name(writer, off)
    parts = frozenset({name} if folder.base is None else {name, folder.base})
    manifest = Manifest(writer.epoch, folder.mark, folder.content, folder.claimed, parts)
    first = "manifest" if "manifest last" in off else "part"
    return writer._replace(
        state=f"{first} first", snapshot=manifest, folder=folder._replace(base=name), shipped=folder.mark
    )


def _part_name(writer: Writer, off: Off) -> PartName:
    """A name that nobody has used; or one by content alone, and contents repeat."""
    if "names are not used again" in off:
        return PartName(0, len(writer.folder.content) % 3)
    return PartName(writer.epoch, writer.folder.mark)


def _put_part(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    manifest = writer.snapshot
    assert manifest is not None
    name = _part_name(writer, off)
    state = "manifest second" if writer.state == "part first" else "serving"
    snapshot = manifest if writer.state == "part first" else None
    yield world._replace(parts=world.parts | {name}), writer._replace(state=state, snapshot=snapshot)


def _put_manifest(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    manifest = writer.snapshot
    assert manifest is not None
    state = "part second" if writer.state == "manifest first" else "serving"
    changed = writer._replace(state=state, snapshot=manifest if state == "part second" else None)
    yield world._replace(manifests=world.manifests | {manifest}), changed
    if world.late_puts < bounds.late_puts:
        late = world._replace(late_puts=world.late_puts + 1, late=world.late | {manifest})
        yield late, changed


def _found(world: World, writer: Writer, off: Off) -> Iterator[tuple[World, Writer]]:
    """List what the newest snapshot does not need. One is kept here, two in truth, for slow readers' sake."""
    kept = newest(world, off)
    if kept is None or (kept.epoch != writer.epoch and "a snapshot of one's own epoch" not in off):
        return
    if kept.epoch == writer.epoch and kept.mark != writer.shipped and "one's own last snapshot" not in off:
        return  # a later one may be on its way, and rely on what is not named now
    if "list before looking" in off and writer.state == "serving":  # it looks first, and lists afterwards
        if world.epochs == writer.epoch:
            yield world, writer._replace(state="listing")
        return
    unnamed: frozenset[PartName | Manifest] = (world.parts - kept.parts) | (world.manifests - {kept})
    found = writer._replace(removal=(unnamed, kept.mark))
    if "look before removing" in off or writer.state == "listing":
        yield _removing(world, found)
    else:
        yield world, found._replace(state="collecting")


def _listing(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    yield from _found(world, writer, off)


def _collecting(world: World, writer: Writer, bounds: Bounds, off: Off) -> Iterator[tuple[World, Writer]]:
    if world.epochs > writer.epoch:
        yield world, _stopped(writer)
    else:
        yield _removing(world, writer)


def _removing(world: World, writer: Writer) -> tuple[World, Writer]:
    """The deletions are sent; they may arrive late, after anything else."""
    assert writer.removal is not None
    unnamed, mark = writer.removal
    sent = {Removal(frozenset(unnamed)), Removal(frozenset(range(1, mark + 1)))}
    return world._replace(late=world.late | sent), writer._replace(state="serving", removal=None)


_STEPS = {
    "start": _start,
    "judge": _judge,
    "uploaded": _uploaded,
    "read": _read,
    "replay": _replay,
    "claim": _claim,
    "claimed": _claimed,
    "serving": _serving,
    "unsure": _append,
    "appended": _appended,
    "part first": _put_part,
    "part second": _put_part,
    "manifest first": _put_manifest,
    "manifest second": _put_manifest,
    "listing": _listing,
    "collecting": _collecting,
}


def _follower_steps(world: World, follower: Follower, off: Off) -> Iterator[Follower]:
    folder = follower.folder
    manifest = newest(world, off)
    ahead = manifest is not None and manifest.mark > folder.mark
    if follower.state == "start":
        if manifest is not None and ahead and "newest snapshot at the start" not in off:
            folder = restored(manifest)
        yield Follower("read", folder)
    elif follower.entry is not None:
        collected = manifest is not None and manifest.mark >= follower.entry.place
        later = world.epochs > follower.entry.epoch
        if later and collected and "look before following" not in off:
            yield Follower("start", folder)
        else:
            yield Follower("read", with_entry(folder, follower.entry, off))
    else:
        if ahead:
            yield Follower("start", folder)  # it adopts the newer snapshot, or its process is started anew
        higher = [one for one in world.log if one.place > folder.mark]
        if higher and (min(higher).place == folder.mark + 1 or "contiguous entries" in off):
            yield Follower("read", folder, min(higher))


def folders(world: World) -> Iterator[Folder]:
    """All copies that answer questions, or are kept on a disk."""
    yield from (writer.folder for writer in world.writers)
    yield from (follower.folder for follower in world.followers)
