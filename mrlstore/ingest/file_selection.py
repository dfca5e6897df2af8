"""Which files of a folder are read: not hidden ones, nor what .gitignore or an exclusion leaves out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mrlstore.embedders.media import MissingExtra
from mrlstore.errors import InvalidInput

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

GITIGNORE: Final = ".gitignore"
_STORE: Final = frozenset({"catalogue.db", "parts"})  # what every store's folder has

Skip = Callable[[str, str], None]  # is called with a place and why it is left out


@dataclass(frozen=True)
class FoundFile:
    """A file to read."""

    path: Path  # as it was reached from the paths that were given
    absolute: Path


@dataclass(frozen=True)
class FileSelection:
    """Which files of folders are read. Files that are named themselves are always read."""

    exclude: Sequence[str] = ()  # patterns as in .gitignore, relative to the folder
    extensions: Sequence[str] | None = None  # only names that end so, without the dot; None: all
    gitignore: bool = False  # obey the .gitignore files of the folder, and of the repository around it
    apart: Sequence[Path] = ()  # files and folders that are passed over, such as the store itself

    def files(self, paths: Iterable[Path], skip: Skip) -> Iterator[FoundFile]:
        """The files at these paths, those of folders in the order of their names."""
        apart = frozenset(map(os.path.realpath, self.apart))
        for path in paths:
            if path.is_dir():
                found = _FolderWalk(self, path, apart, skip)
                yield from (FoundFile(path / file, found.absolute / file) for file in found.files())
            else:
                yield FoundFile(path, Path(os.path.abspath(path)))


class _FolderWalk:
    """The walk through one folder."""

    def __init__(self, selection: FileSelection, root: Path, apart: frozenset[str], skip: Skip) -> None:
        self.absolute = Path(os.path.abspath(root))
        self._root, self._apart, self._skip = root, apart, skip
        self._endings = None
        if selection.extensions is not None:
            self._endings = tuple(f".{each.lower().removeprefix('.')}" for each in selection.extensions)
        self._excluded = patterns(selection.exclude) if selection.exclude else None
        self._gitignore = selection.gitignore
        self._specs: dict[Path, GitIgnoreSpec] = {}  # by the absolute folder of a .gitignore
        if selection.gitignore:
            for folder in _up_to_repository(self.absolute):
                self._read_gitignore(folder)
                spec = self._specs.get(folder)
                if spec is not None and folder != self.absolute:
                    itself = self.absolute.relative_to(folder).as_posix()
                    if spec.match_file(f"{itself}/"):  # who names an ignored folder wants it
                        del self._specs[folder]

    def files(self) -> list[Path]:
        """The files to read, relative to the folder, sorted."""
        found = []
        for folder, folders, names in os.walk(self._root, onerror=self._note):
            inside = Path(folder).relative_to(self._root)
            if self._gitignore and GITIGNORE in names:
                self._read_gitignore(self.absolute / inside)
            folders[:] = [name for name in folders if self._enters(inside / name)]
            found += [inside / name for name in names if self._takes(inside / name)]
        return sorted(found)

    def _enters(self, folder: Path) -> bool:
        if folder.name.startswith(".") or self._is_apart(folder) or self._is_ignored(folder, "/"):
            return False
        try:
            return not set(os.listdir(self._root / folder)) >= _STORE
        except OSError:
            return True  # the walk says why

    def _takes(self, file: Path) -> bool:
        if file.name.startswith(".") or self._is_apart(file) or self._is_ignored(file, ""):
            return False
        if self._endings is not None and not file.name.lower().endswith(self._endings):
            return False
        path = self._root / file
        if path.is_symlink() and not path.exists():
            self._skip(path.as_posix(), "a link that leads nowhere")
            return False
        return path.is_file()

    def _is_apart(self, inside: Path) -> bool:
        return bool(self._apart) and os.path.realpath(self._root / inside) in self._apart

    def _is_ignored(self, inside: Path, slash: str) -> bool:
        if self._excluded is not None and self._excluded.match_file(inside.as_posix() + slash):
            return True
        path = self.absolute / inside
        for folder in path.parents:  # the nearest .gitignore that says anything decides
            spec = self._specs.get(folder)
            if spec is not None:
                said = spec.check_file(path.relative_to(folder).as_posix() + slash).include
                if said is not None:
                    return said
        return False

    def _read_gitignore(self, folder: Path) -> None:
        path = folder / GITIGNORE
        try:
            self._specs[folder] = patterns(path.read_text(errors="replace").splitlines())
        except FileNotFoundError:
            pass
        except (InvalidInput, OSError) as error:
            self._skip(path.as_posix(), f"cannot be read: {error}")

    def _note(self, error: OSError) -> None:
        self._skip(os.fspath(error.filename), f"a folder that cannot be read: {error.strerror}")


def _up_to_repository(folder: Path) -> list[Path]:
    """The folders above, up to that of the git repository around them; none where there is no repository."""
    above = [folder, *folder.parents]
    top = next((place for place, each in enumerate(above) if (each / ".git").exists()), 0)
    return above[: top + 1]


def patterns(lines: Iterable[str]) -> GitIgnoreSpec:
    """Patterns as in .gitignore; InvalidInput for one that is none."""
    try:
        from pathspec import GitIgnoreSpec
    except ImportError as error:
        raise MissingExtra(
            "patterns of .gitignore are read by pathspec: pip install 'mrlstore[cli]'"
        ) from error
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise InvalidInput(f"no pattern of .gitignore: {error}") from error
