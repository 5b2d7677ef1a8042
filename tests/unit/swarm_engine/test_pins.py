"""Which image a name is for one launch."""

from __future__ import annotations

from airflow_torchx.swarm_engine.pinning import Pins


def test_one_image_for_a_launch() -> None:
    """A name is asked for once for each launch, and for each look before one."""
    moves = iter("abcdef")
    pins = Pins(lambda ref: f"{ref}@{next(moves)}")

    seen = pins.of("t", "1"), pins.of("t", "1"), pins.of("t", "2"), pins.find("t"), pins.find("t")

    assert ("t@a", "t@a", "t@b", "t@c", "t@d") == seen
    assert ("t@d", "t@d", "t@e") == (pins.of("t", "3"), pins.of("t", "3"), pins.of("t", "4"))


def test_a_pull_decides() -> None:
    """What a pull has found is used by the launch after it, and by no later one."""
    pins = Pins(lambda ref: f"{ref}@manager")

    pins.put("t", "t@registry")

    assert ("t@registry", "t@registry") == (pins.of("t", "1"), pins.of("t", "1"))
    assert "t@manager" == pins.of("t", "2")
