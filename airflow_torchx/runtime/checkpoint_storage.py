"""The versions of an app's checkpoints in an object storage."""

from __future__ import annotations

import contextlib
import logging
import posixpath
import re
from typing import IO, TYPE_CHECKING, Any, Final

from airflow_torchx.concurrency.parallel import StopRequested
from airflow_torchx.core.plan.checkpoint_versions import POINTER, POINTER_COPY, Pointer, outdated
from airflow_torchx.errors import AirflowTorchXError, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_torchx.core.plan.checkpoint_versions import StoredCheckpoints, Version

_log = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 8 << 20
_ACCESS: Final = "Check the URL, its connection, and that fsspec's package for it is installed."
#: A password before a host, and the query of a URL, which may be a signature.
_SECRET: Final = re.compile(r"(?<=://)[^/\s@]*@|\?[^\s'\"]*")


class CheckpointStorage:
    """The folder of one app in an object storage.

    Every method raises `CheckpointError` if the storage refuses a request.

    Args:
        filesystem: returns fsspec's file system for a URL, and the path in it.
        stored: which folder.
    """

    def __init__(
        self, filesystem: Callable[[str], tuple[Any, str]], stored: StoredCheckpoints
    ) -> None:
        self.name = stored.name
        with self.errors("open"):
            self._fs, path = filesystem(stored.url)
        self._root = posixpath.join(path, stored.scope)

    def pointer(self) -> Pointer | None:
        """Return what the pointer names; None if nothing was uploaded.

        A pointer that is cut off was being written when its writer was killed. Then its copy is
        whole, and the other way round.
        """
        problem = ""
        for name in (POINTER, POINTER_COPY):
            with self.errors(f"read {name} of"):
                try:
                    data = self._fs.cat_file(self._path(name))
                except FileNotFoundError:
                    continue
            try:
                return Pointer.parse(data)
            except ValueError as error:
                problem = problem or str(error)
        # A copy alone is that of the first upload, which did not end.
        if problem and self._exists(POINTER):
            what = f"the file {POINTER} in {self.name} cannot be read: {problem}."
            fix = "Restore it, or move the folder away to start without checkpoints."
            raise CheckpointError(what, fix=fix)
        return None

    def check(self, pointer: Pointer) -> None:
        """Check that the storage has all files of a version.

        Raises:
            CheckpointError: some are missing, or have another size.
        """
        folder = self._path(pointer.version.folder)
        with self.errors("list"):
            self._fs.invalidate_cache()
            found = self._fs.find(folder, detail=True)
        sizes = {path.removeprefix(folder).strip("/"): one["size"] for path, one in found.items()}
        bad = [path for path, one in pointer.files.items() if sizes.get(path) != one.size]
        if bad:
            what = (
                f"{len(bad)} of the {len(pointer.files)} files of {self.name}/"
                f"{pointer.version.folder} are missing or incomplete, like {bad[0]!r}."
            )
            fix = (
                "Restore them, or move the folder away to start without checkpoints, or edit"
                f" {POINTER} to name another version."
            )
            raise CheckpointError(what, fix=fix)

    def open_file(self, version: Version, path: str) -> IO[bytes]:
        """Open a file of a version."""
        where = self._path(version.folder, path)
        found: IO[bytes] = self._fs.open(where, "rb", block_size=_BLOCK_BYTES)
        return found

    def write(self, version: Version, path: str, blocks: Iterable[bytes]) -> None:
        """Write a file of a version."""
        with self.errors(f"write {path!r} to"), self._created(version.folder, path) as file:
            for block in blocks:
                file.write(block)

    def copy(self, source: tuple[Version, str], target: tuple[Version, str]) -> None:
        """Copy a file, within the storage where that can do so."""
        (of, path), (to, name) = source, target
        with self.errors(f"copy {path!r} in"):
            where = self._path(to.folder, name)
            try:
                self._fs.cp_file(self._path(of.folder, path), where)
            except FileNotFoundError:
                self._fs.makedirs(posixpath.dirname(where), exist_ok=True)
                self._fs.cp_file(self._path(of.folder, path), where)

    def publish(self, pointer: Pointer) -> None:
        """Make a version, whose files are all written, the one that readers find."""
        for name in (POINTER_COPY, POINTER):
            with self.errors(f"write {name} to"), self._created(name) as file:
                file.write(pointer.to_json())

    def remove(self, version: Version) -> None:
        """Remove a version, as far as it was written."""
        with self.errors("clean up"), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._path(version.folder), recursive=True)

    def remove_outdated(self, kept: Version, before: Version | None) -> None:
        """Remove older versions than the one before; only warn if that fails."""
        try:
            with self.errors("clean up"):
                self._fs.invalidate_cache()
                names = [posixpath.basename(one) for one in self._fs.ls(self._root, detail=False)]
                for name in outdated(names, kept, before):
                    self._fs.rm(self._path(name), recursive=True)
        except CheckpointError as error:
            _log.warning("old versions of checkpoints are left: %s", error.what)

    @contextlib.contextmanager
    def errors(self, verb: str) -> Iterator[None]:
        """Raise what a storage raises, which may be any exception, as `CheckpointError`."""
        try:
            yield
        except (AirflowTorchXError, StopRequested):
            raise
        except Exception as error:
            why = _SECRET.sub("…", f"{type(error).__name__}: {error}")
            what = f"cannot {verb} {self.name}, which is for checkpoints: {why}."
            raise CheckpointError(what, fix=_ACCESS) from error

    def _exists(self, name: str) -> bool:
        with self.errors(f"read {name} of"):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)))

    @contextlib.contextmanager
    def _created(self, *names: str) -> Iterator[IO[bytes]]:
        """Open a file to write; a file that is not complete is dropped where storages can."""
        path = self._path(*names)
        try:
            file = self._fs.open(path, "wb")
        except FileNotFoundError:
            # Object storages have no folders, and a login may not be allowed to ask for any.
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            file = self._fs.open(path, "wb")
        try:
            yield file
        except BaseException:
            with contextlib.suppress(Exception):
                getattr(file, "discard", file.close)()
            raise
        file.close()

    def _path(self, *names: str) -> str:
        return posixpath.join(self._root, *names)
