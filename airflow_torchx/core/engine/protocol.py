"""The Engine protocol: every operation that this package needs of a Docker daemon.

``docker_engine.DockerEngine``, ``swarm_engine.SwarmEngine``, ``testing.FakeEngine`` and
``testing.FakeSwarm`` implement it; the contract tests run on all of them. All methods block, and
are safe to call from several threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_torchx.core.engine.containers import (
        ContainerDetail,
        ContainerEvent,
        ContainerRow,
        ContainerSpec,
        EngineInfo,
        LogQuery,
        NetworkRow,
        VolumeRow,
    )
    from airflow_torchx.core.engine.images import BuildSpec, ImageDetail, ImageRow
    from airflow_torchx.core.engine.usage import ContainerUsage, Execution


_Item = TypeVar("_Item", covariant=True)  # noqa: PLC0105 - private


class Stream(Protocol[_Item]):
    """A stream from the daemon; iterate it once, close it from any thread."""

    def __iter__(self) -> Iterator[_Item]:
        """Yield until the stream ends or is closed.

        Raises:
            EngineUnreachableError: the connection broke before the daemon ended the stream.
        """

    def close(self) -> None:
        """End the stream, even while another thread waits for the next item. Idempotent."""


#: Chunks of any size.
ByteStream: TypeAlias = Stream[bytes]


class Images(Protocol):
    """The images of a daemon, which builds and pushes; of a swarm, those of a manager.

    Every method may raise EngineError or EngineUnreachableError.
    """

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ImageRow, ...]:
        """Return the images that have all these labels, None for any value, in one request."""

    def inspect(self, ref: str) -> ImageDetail | None:
        """Return the details of an image; None if it does not exist."""

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Pull an image (tag ``latest`` if it has none) and wait for the end of the pull.

        ``on_progress`` is called with a short line, at most once a second.

        Raises:
            ImagePullError: the pull failed, or its stream reported an error.
        """

    def prepare(self, ref: str, name: str, labels: Mapping[str, str]) -> str:
        """Create a container, never started, to add files to an image; return its id.

        The labels are those of the image that `commit` creates. As with `Engine.create`, reserved
        ones of the image ``ref`` are not inherited.

        Raises:
            EngineConflictError: the name is taken.
            EngineNotFoundError: the image does not exist.
        """

    def put_files(self, container_id: str, files: Iterable[bytes], *, replace: bool = True) -> None:
        """Unpack an uncompressed tar at the root of a container, running or not.

        A file replaces a folder of its name with all that is in it, also in a volume, and a folder
        replaces a file or a link; without ``replace``, either is refused. The tar comes in chunks
        of any size, and is never held in memory as a whole. Its exceptions are passed on unchanged.

        Raises:
            EngineNotFoundError: the container does not exist.
            EngineError: a folder would replace something else, or the other way round; the message
                names its path.
        """

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container from `prepare`; see `Engine.read_file`."""

    def discard(self, container_id: str) -> None:
        """Remove a container from `prepare`, by its id or name, if it exists.

        It is on the daemon that builds, where a swarm's `Engine.remove` knows services only.
        """

    def commit(self, container_id: str, tag: str, working_dir: str) -> str:
        """Create an image from the files of a container from `prepare`, and return its id.

        Its configuration is that of the image given to `prepare`, with the labels added and the
        working directory replaced. If another image has the name ``repo:tag``, it is moved.
        """

    def build(
        self, spec: BuildSpec, context: Iterable[bytes], on_line: Callable[[str], None]
    ) -> str:
        """Build a Dockerfile, remove the build's containers, and return the id of the image.

        ``context`` is an uncompressed tar in chunks of any size, including the Dockerfile.
        ``on_line`` is called with every line that the build prints, and with an empty string
        several times a second while it prints nothing. If it raises, the build is aborted.

        Raises:
            ImageBuildError: a step failed, or BuildKit is needed but not available.
        """

    def tag(self, ref: str, tag: str) -> None:
        """Add a name, ``repo:tag``, to an image; it is moved if another image has it.

        Raises:
            EngineNotFoundError: the image does not exist.
        """

    def untag(self, tag: str) -> None:
        """Remove a name from an image, and the image with its last name.

        Does nothing if the image does not exist.

        Raises:
            EngineConflictError: it is the last name of an image that a container uses.
        """

    def push(self, tag: str, on_progress: Callable[[str], None]) -> None:
        """Push an image to the registry in its name, and wait for the end of the push.

        ``on_progress`` is called with a short line, at most once a second.

        Raises:
            ImagePushError: the push failed, or its stream reported an error.
        """

    def is_published(self, tag: str) -> bool:
        """Return whether an image is in its registry; False if the registry cannot be reached.

        The daemon queries the registry, with the login that a push would use.
        """


@runtime_checkable
class Engine(Protocol):
    """A Docker daemon; every method may raise EngineError or EngineUnreachableError."""

    @property
    def images(self) -> Images:
        """The daemon's images."""

    @property
    def proxy_env(self) -> Mapping[str, str]:
        """The environment variables that containers get unless the app sets them.

        The docker configuration of this user names HTTP proxies for the daemon. Builds get them,
        too.
        """

    def info(self) -> EngineInfo:
        """Return the facts about the daemon."""

    def find_image(self, ref: str) -> str | None:
        """Return the id of a local image by name, tag, digest or id; None if it does not exist."""

    def pull(self, ref: str, on_progress: Callable[[str], None]) -> None:
        """Pull an image for containers, as `Images.pull`; nodes of a swarm do so at the start.

        Raises:
            ImagePullError: the pull failed, or its registry does not have it.
        """

    def networks(self, name: str) -> tuple[NetworkRow, ...]:
        """Return the networks with exactly this name; Docker allows duplicates."""

    def create_network(self, name: str) -> str:
        """Create a bridge network and return its id.

        Raises:
            EngineConflictError: the name is taken, if the Engine checks that.
        """

    def remove_network(self, network_id: str) -> None:
        """Remove a network by id; do nothing if it does not exist."""

    def create(self, spec: ContainerSpec) -> str:
        """Create a container without starting it, and return its id.

        It inherits no label of its image that is reserved, except those of workspace images.

        Raises:
            EngineConflictError: the name is taken.
            EngineNotFoundError: the image or the network does not exist.
        """

    def clone(
        self, container_id: str, *, name: str, labels: Mapping[str, str], env: Mapping[str, str]
    ) -> str:
        """Create a container configured like another one, without starting it; return its id.

        Its host name, network aliases and image stay the same, even if the image's name has moved
        to another image. Labels and environment variables are added, or replaced. It gets anonymous
        volumes of its own. Networks to which the other container was connected later are left out.

        Raises:
            EngineConflictError: the name is taken.
            EngineNotFoundError: the container, its image or its network does not exist.
        """

    def start(self, container_id: str) -> None:
        """Start a created container; do nothing if it is running.

        A name works in place of the id: it fails if another client has renamed the container.

        Raises:
            EngineNotFoundError: the container does not exist.
        """

    def rename(self, container_id: str, name: str) -> None:
        """Rename a container, running or not; do nothing if it has that name.

        A name works in place of the id: it fails if another client has renamed the container.

        Raises:
            EngineConflictError: the name is taken.
            EngineNotFoundError: the container does not exist.
        """

    def stop(self, container_id: str, grace_s: float) -> None:
        """Send SIGTERM, wait up to ``grace_s`` seconds, send SIGKILL, and wait for the end.

        Docker counts whole seconds, so ``grace_s`` is rounded up. Does nothing if the container
        does not run or does not exist.
        """

    def signal(self, container_id: str, name: str) -> None:
        """Send a signal, like ``SIGUSR1``, to the main process of a container.

        The kernel ignores a signal without a handler in process 1, unless the container has an
        init. The daemon does not restart the container at its next end. Does nothing if the
        container does not run or does not exist.
        """

    def remove(self, container_id: str) -> None:
        """Kill and remove a container with its anonymous volumes.

        Does nothing if it does not exist. If another call is removing it, it waits for the end of
        that removal.
        """

    def discard(self, container_id: str) -> bool:
        """Remove a container that does not run, and return whether this call discarded it.

        Of several calls for one container, in any processes, one returns True. Returns False if it
        does not exist, or if another client removes it. It is renamed first, which frees its name.
        Its anonymous volumes are removed, too.

        Raises:
            EngineConflictError: the container runs.
        """

    def rows(self, labels: Mapping[str, str | None]) -> tuple[ContainerRow, ...]:
        """Return all containers, running or not, that have all these labels, in one request.

        The value None matches any value. Without labels, these are all containers of the daemon.
        """

    def sizes(self, labels: Mapping[str, str | None]) -> Mapping[str, int]:
        """Return the bytes that each container of `rows` has written to its own layer, by id.

        It is one request. The daemon reads all files of these layers, which may take seconds.
        """

    def unused_volumes(self, labels: Mapping[str, str | None]) -> tuple[VolumeRow, ...]:
        """Return the volumes with all these labels that no container mounts, in one request.

        The value None matches any value.
        """

    def remove_volume(self, name: str) -> bool:
        """Remove a volume with its files, and return whether this call did.

        Returns False if a container mounts it, running or not, or if it does not exist.
        """

    def inspect(self, container_id: str) -> ContainerDetail | None:
        """Return the details of a container; None if it does not exist."""

    def logs(self, container_id: str, query: LogQuery) -> ByteStream:
        """Open a container's log as Docker's multiplexed stream.

        https://docs.docker.com/reference/api/engine/ (attach, "Stream format") has the format.

        Raises:
            EngineNotFoundError: the container does not exist.
        """

    def events(self, *, all_containers: bool = False) -> Stream[ContainerEvent]:
        """Follow the events of all apps' containers, from now on, until the stream is closed.

        With ``all_containers``, also those of containers without an app. Yields each action of
        `EVENT_ACTIONS` once. Docker sends ``die`` before it updates the container list. If the
        connection breaks or the daemon closes it, the stream raises EngineUnreachableError; a new
        stream does not repeat missed events.
        """

    def read_file(self, container_id: str, path: str, max_bytes: int) -> bytes:
        """Read one regular file of a container, running or not.

        Raises:
            EngineNotFoundError: the container or the file does not exist.
            ValueError: it is not a regular file.
            TooLargeError: it is larger than ``max_bytes``; also a ValueError.
        """

    def archive(self, container_id: str, path: str) -> ByteStream:
        """Open an uncompressed tar of a file or a folder of a container, running or not.

        The names in it start with the last part of the path. Volumes are mounted for it. Docker
        cuts the times of the files to whole seconds.

        Raises:
            EngineNotFoundError: the container or the path does not exist.
        """

    def usage(self, container_id: str) -> ContainerUsage | None:
        """Return what a container uses; None if it does not run, or does not exist."""

    def execute(
        self, container_id: str, command: Sequence[str], *, timeout_s: float, max_bytes: int
    ) -> Execution:
        """Run a command in a running container, and return its output and its exit code.

        The output has at most ``max_bytes``. After ``timeout_s`` seconds the command runs on, and
        is not waited for. A program that does not exist has the exit code 126 or 127.

        Raises:
            EngineConflictError: the container does not run.
            EngineNotFoundError: the container does not exist.
        """

    def close(self) -> None:
        """Close all connections. Idempotent."""

    def __enter__(self) -> Self:
        """Return self."""

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
