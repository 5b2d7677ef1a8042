"""The Engine protocol: every verb this package asks of a Docker daemon.

Two implementations keep it: ``docker_engine.DockerEngine`` and ``testing.FakeEngine``; one suite of
contract tests runs on both. All verbs are blocking, and safe to call from several threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerEvent,
        ContainerRow,
        ContainerSpec,
        EngineInfo,
        LogQuery,
        NetworkRow,
    )
    from airflow_torchx.core.engine.images import BuildSpec, ImageDetail, ImageRow


_Item = TypeVar("_Item", covariant=True)  # noqa: PLC0105 - private


class Stream(Protocol[_Item]):
    """What comes from the daemon bit by bit; iterate it once, close it from any thread."""

    def __iter__(self) -> Iterator[_Item]:
        """Yield until the stream ends or is closed.

        Raises:
            EngineUnreachableError: the connection broke before the daemon ended the stream.
        """
        ...

    def close(self) -> None:
        """End the stream, also while another thread waits for its next item. Idempotent."""
        ...


#: Chunks of any size.
ByteStream: TypeAlias = Stream[bytes]


class Images(Protocol):
    """What makes, names, moves and removes the images of a daemon.

    Every verb may raise EngineError or EngineUnreachableError.
    """

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ImageRow, ...]:
        """Return the images that carry all these labels, in one call.

        Args:
            labels: label to value; None for any value.
        """
        ...

    def inspect(self, ref: str) -> ImageDetail | None:
        """Return what only an inspect tells of an image; None when it is not there."""
        ...

    def prepare(self, ref: str, name: str, labels: Mapping[str, str]) -> str:
        """Create a container that is never started, to put files onto an image; return its id.

        Args:
            ref: the image.
            name: name of the container.
            labels: labels of the image that `commit` will make.

        Raises:
            EngineConflictError: a container has that name.
            EngineNotFoundError: the image is not there.
        """
        ...

    def put_files(self, container_id: str, files: Iterable[bytes]) -> None:
        """Unpack an uncompressed tar at the root of a container.

        Args:
            container_id: the container, running or not.
            files: the tar in pieces of any size; never held in memory as a whole. What the iterable
                raises is raised as it is.

        Raises:
            EngineNotFoundError: the container is gone.
        """
        ...

    def commit(self, container_id: str, tag: str, working_dir: str) -> str:
        """Make an image of a container's files, and return its id.

        Everything else in it is as in the image that `prepare` was given, with the labels added.

        Args:
            container_id: a container that `prepare` made.
            tag: name of the new image, ``repo:tag``; an image that has it loses it.
            working_dir: where containers of the new image start.
        """
        ...

    def build(
        self, spec: BuildSpec, context: Iterable[bytes], on_line: Callable[[str], None]
    ) -> str:
        """Build a Dockerfile, and return the id of the image; no container of it is left.

        Args:
            spec: what to build.
            context: an uncompressed tar in pieces of any size, with the Dockerfile in it.
            on_line: called with every line that the build prints, and with an empty one several
                times a second while it prints none. What it raises ends the build.

        Raises:
            ImageBuildError: a step failed, and which; or BuildKit is needed and not to be had.
        """
        ...

    def tag(self, ref: str, tag: str) -> None:
        """Give an image one more name, ``repo:tag``; an image that has it loses it.

        Raises:
            EngineNotFoundError: the image is not there.
        """
        ...

    def untag(self, tag: str) -> None:
        """Take a name from an image, and remove the image if that was its last one.

        An image that is gone already is no error.

        Raises:
            EngineConflictError: it was its last name, and a container uses the image; both stay.
        """
        ...

    def push(self, tag: str, on_progress: Callable[[str], None]) -> None:
        """Push an image to the registry in its name, and wait until it is there.

        Args:
            tag: name of a local image, ``registry/repo:tag``.
            on_progress: called with a short line now and then, at most once a second.

        Raises:
            ImagePushError: for every error in the push stream as well.
        """
        ...

    def is_published(self, tag: str) -> bool:
        """Tell whether the registry in an image's name has it; False as well if it cannot be asked.

        The daemon asks the registry, with the same login that a push would use.
        """
        ...


@runtime_checkable
class Engine(Protocol):
    """A Docker daemon. Every verb may raise EngineError or EngineUnreachableError."""

    @property
    def images(self) -> Images:
        """The verbs on images."""
        ...

    def info(self) -> EngineInfo:
        """Describe the daemon."""
        ...

    def find_image(self, ref: str) -> str | None:
        """Return the id of a local image by name, tag, digest or id; None when it is not there."""
        ...

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Pull an image (tag ``latest`` if it has none) and wait until it is there.

        Args:
            ref: the image.
            on_progress: called with a short line now and then, at most once a second.

        Raises:
            ImagePullError: for every error in the pull stream as well.
        """
        ...

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """Return the networks of exactly this name; Docker allows several."""
        ...

    def create_network(self, name: str) -> str:
        """Create a bridge network and return its id.

        Raises:
            EngineConflictError: one of that name is there, where the Engine checks it.
        """
        ...

    def remove_network(self, network_id: str) -> None:
        """Remove a network by id; one that is gone already is no error."""
        ...

    def create(self, spec: ContainerSpec) -> str:
        """Create a container without starting it, and return its id.

        Raises:
            EngineConflictError: a container has that name.
            EngineNotFoundError: the image or the network is not there.
        """
        ...

    def start(self, container_id: str) -> None:
        """Start a created container; one that runs already is no error."""
        ...

    def rename(self, container_id: str, name: str) -> None:
        """Give a container another name, running or not.

        Raises:
            EngineConflictError: a container has that name.
            EngineNotFoundError: the container is gone.
        """
        ...

    def stop(self, container_id: str, grace_s: float) -> None:
        """Send SIGTERM, wait up to ``grace_s`` seconds, send SIGKILL, and wait for the end.

        A container that does not run, or is gone, is no error. Docker counts whole seconds: a part
        of one is rounded up.
        """
        ...

    def remove(self, container_id: str) -> None:
        """Remove a container with its anonymous volumes, killing it first if it runs.

        One that is gone already, or being removed by somebody else, is no error.
        """
        ...

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """Return all containers, running or not, that carry all these labels, in one call.

        Args:
            labels: label to value; None for any value.
        """
        ...

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """Return what only an inspect tells; None when the container is gone."""
        ...

    def logs(self, container_id: str, query: LogQuery) -> ByteStream:
        """Open a container's log as Docker's multiplexed stream.

        A message is one frame: a byte for the stream (1 stdout, 2 stderr), three zero bytes, the
        length as a 4-byte big-endian number, then that many bytes.
        https://docs.docker.com/reference/api/engine/ (attach, "Stream format")

        Raises:
            EngineNotFoundError: the container is gone.
        """
        ...

    def events(self) -> Stream[ContainerEvent]:
        """Follow what happens to the containers of all apps, from now on, until it is closed.

        Every action of `EVENT_ACTIONS` comes once. The container list may lag behind a ``die`` by
        some time: Docker tells it before it has put the container away. Nothing is told again after
        the connection broke; that the daemon ends it is an EngineUnreachableError as well.
        """
        ...

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container, running or not.

        Raises:
            EngineNotFoundError: no container or no such file.
            ValueError: it is not a regular file, or larger than ``max_bytes``.
        """
        ...

    def close(self) -> None:
        """Give connections back. Idempotent."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close."""
        ...
