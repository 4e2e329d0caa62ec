"""Do the work of a study in this process or by the actors of a Ray cluster. The only file that names Ray."""

import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from spot.errors import ConfigError, MissingExtra, StorageError, StudyError, did_you_mean

log = logging.getLogger(__name__)

EXECUTORS = ("serial", "ray")
TRIES = 3  # workers that an item may lose
ANSWER_SECONDS = 10  # that a cluster has to answer
SETTINGS_FRAME = 4  # the frame that both sides of HTTP/2 begin with (RFC 9113, sections 3.4 and 6.5)
PASSED_VARIABLES = ("SPOT_CACHE", "SPOT_DATA", "SPOT_DEVICE", "SPOT_DTYPE")  # of the environment, where set
POLL_SECONDS = 1.0  # between looks at which nodes there are

Held = TypeVar("Held")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class GivenUp:
    """Why an item was given up."""

    reason: str


class Executor(Protocol):
    """Does items of work, in any order."""

    def __call__(
        self, load: Callable[[], Held], work: Callable[[Held, Item], Result], items: Iterable[Item | None]
    ) -> Iterator[tuple[Item, Result | GivenUp]]:
        """Do all items.

        Args:
            load: makes what a worker holds, such as the frozen model; called once a worker, and not where there are
                no items.
            work: does one item; its own errors end everything.
            items: each is taken when a worker is free for it; None stands for one that must wait until something at
                work is done.

        Yields:
            An item with its result, as soon as there is one.
        """
        ...


def executor_named(name: str, address: str | None = None) -> Executor:
    """An executor by its name; an address of a cluster implies `ray`.

    Args:
        name: one of `EXECUTORS`.
        address: as in `ray`.

    Raises:
        ConfigError: the name is unknown.
        MissingExtra: Ray is not installed.
        StudyError: no cluster answers.
    """
    if name not in EXECUTORS:
        raise ConfigError(f"the executor is {name!r}: {did_you_mean(name, EXECUTORS)}")
    return serial if name == "serial" and address is None else ray(address)


def serial(
    load: Callable[[], Held], work: Callable[[Held, Item], Result], items: Iterable[Item | None]
) -> Iterator[tuple[Item, Result | GivenUp]]:
    """Do one item after another in this process; see `Executor`."""
    held: Any = None
    for item in items:
        assert item is not None, "nothing is at work between two items"
        held = load() if held is None else held
        yield item, work(held, item)


def ray(address: str | None = None) -> Executor:
    """An executor on a Ray cluster: an actor on each GPU, or on each node without one, holds what a worker holds.

    Nodes that join get actors; an item whose actor dies is done again by another, `TRIES` times in all.

    Args:
        address: of a running cluster: `HOST:PORT`, `ray://HOST:PORT`, or `auto` for the one that this machine belongs
            to; None starts one here, which ends with this process.

    Raises:
        MissingExtra: Ray is not installed.
        StudyError: no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray as api
    except ImportError as error:
        raise MissingExtra("a cluster needs Ray: pip install 'spot-transfer[study]'") from error
    _connect(api, address)
    return partial(_on_cluster, api)


def _connect(api: Any, address: str | None) -> None:
    """Join a cluster, or start one here."""
    variables = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    options = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": {"env_vars": variables}}
    if address is None:
        api.init(address="local", include_dashboard=False, **options)
        return
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    if host:
        try:
            _check_answers(host, int(port))
        except (OSError, ValueError) as error:
            raise StudyError(_no_answer(address, error)) from error
    try:
        api.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise StudyError(_no_answer(address, error)) from error


def _check_answers(host: str, port: int) -> None:
    """Refuse a place where nothing speaks HTTP/2, as a cluster's head does: Ray itself would wait for minutes.

    Raises:
        OSError: nothing answers, or something else.
    """
    with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as line:
        line.settimeout(ANSWER_SECONDS)
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS_FRAME, 0, 0, 0, 0, 0]))
        if line.recv(4)[3:] != bytes([SETTINGS_FRAME]):
            raise OSError("what listens there is something else")


def _no_answer(address: str, error: Exception) -> str:
    """The message for a cluster that cannot be joined."""
    return (
        f"no Ray cluster answers at {address} ({str(error).splitlines()[0]}): expected HOST:PORT of its head, as "
        "`ray start --head` prints it, or auto on a machine that belongs to one. Start it, or leave --address out."
    )


class _Worker:
    """An actor: owns what a worker holds."""

    def __init__(self, load: Callable[[], Any], work: Callable[[Any, Any], Any]):
        """Keep what is needed to begin."""
        self.load = load
        self.work = work
        self.held: Any = None

    def begin(self) -> None:
        """Load; apart from the beginning of the actor, so that its error is told from the actor's death."""
        self.held = self.load()

    def do(self, item: Any) -> Any:
        """Do one item."""
        return self.work(self.held, item)


@dataclass
class _Pool:
    """The actors of a cluster and what each is at.

    Attributes:
        api: Ray.
        load, work: as in `Executor`.
        places: node -> the actors on it.
        beginning: reference -> actor that loads.
        flying: reference -> actor, item, and how many actors the item has lost.
        idle: actors without an item.
        again: items whose actor died, and how many they have lost.
    """

    api: Any
    load: Callable[[], Any]
    work: Callable[[Any, Any], Any]
    places: dict[str, list[Any]] = field(default_factory=dict)
    beginning: dict[Any, Any] = field(default_factory=dict)
    flying: dict[Any, tuple[Any, Any, int]] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    again: deque[tuple[Any, int]] = field(default_factory=deque)

    def fill(self) -> None:
        """Give each device of each living node an actor."""
        for node in self.api.nodes():
            resources = node["Resources"]
            if not node["Alive"] or not resources.get("CPU"):
                continue
            graphics = int(resources.get("GPU", 0))
            options = {"num_gpus": 1} if graphics else {"num_cpus": resources["CPU"]}
            actors = self.places.setdefault(node["NodeID"], [])
            while len(actors) < (graphics or 1):
                there = self.api.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                actor = self.api.remote(_Worker).options(scheduling_strategy=there, max_restarts=0, **options)
                actors.append(begun := actor.remote(self.load, self.work))
                self.beginning[begun.begin.remote()] = begun

    def lose(self, actor: Any) -> None:
        """Forget an actor that has died."""
        with contextlib.suppress(Exception):  # it may be gone already, or cut off with its node
            self.api.kill(actor)
        for actors in self.places.values():
            if actor in actors:
                actors.remove(actor)

    def send(self, item: Any, lost: int) -> None:
        """Give an item to an idle actor."""
        actor = self.idle.pop()
        self.flying[actor.do.remote(item)] = (actor, item, lost)

    def end(self) -> None:
        """Let all actors go, and the cluster."""
        for actors in self.places.values():
            for actor in actors:
                with contextlib.suppress(Exception):  # as in `lose`
                    self.api.kill(actor)
        self.api.shutdown()


def _on_cluster(
    api: Any, load: Callable[[], Held], work: Callable[[Held, Item], Result], items: Iterable[Item | None]
) -> Iterator[tuple[Item, Result | GivenUp]]:
    """Do items on the actors of a cluster; see `Executor`."""
    pool = _Pool(api, load, work)
    feed = iter(items)
    item: Any = next(feed, StopIteration)
    try:
        while item is not StopIteration or pool.flying or pool.again:
            pool.fill()
            while pool.idle and pool.again:
                pool.send(*pool.again.popleft())
            while pool.idle and item is not StopIteration:
                item = next(feed, StopIteration) if item is None else item
                if item is None or item is StopIteration:
                    break
                pool.send(item, 0)
                item = next(feed, StopIteration)
            waiting = [*pool.flying, *pool.beginning]
            done = api.wait(waiting, num_returns=1, timeout=POLL_SECONDS)[0] if waiting else []
            for reference in done:
                yield from _landed(pool, reference)
    finally:
        pool.end()


def _landed(pool: _Pool, reference: Any) -> Iterator[tuple[Any, Any]]:
    """Take what an actor has to say: that it has begun, what it found, or that it died."""
    is_new = reference in pool.beginning
    actor, item, lost = (pool.beginning.pop(reference), None, 0) if is_new else pool.flying.pop(reference)
    errors = pool.api.exceptions
    try:
        result = pool.api.get(reference)
    except errors.RayTaskError as error:  # an error of `load` or `work`, not of the cluster
        # The actor of a driver that was killed may hold a run's folder a little longer.
        if isinstance(error.cause, StorageError) and not is_new and lost + 1 < TRIES:
            time.sleep(POLL_SECONDS)
            pool.again.append((item, lost + 1))
            pool.idle.append(actor)
            return
        raise error.cause if isinstance(error.cause, Exception) else error from None
    except errors.RayError as error:
        pool.lose(actor)
        reason = str(error).strip().splitlines()[0]
        if is_new:
            return
        if lost + 1 < TRIES:
            log.warning("a worker died (%s): its work is done again", reason)
            pool.again.append((item, lost + 1))
            return
        yield item, GivenUp(f"{TRIES} workers died of it; the last: {reason}")
        return
    pool.idle.append(actor)
    if not is_new:
        yield item, result
