"""A local Hub, interpreters that talk to it, and small published folders, for the tests of publishing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_process import HubPython
from local_hub import LocalHub
from small_layout import write_layout


@pytest.fixture(scope="session")
def hub_server() -> Iterator[LocalHub]:
    server = LocalHub()
    yield server
    server.close()


@pytest.fixture
def hub(hub_server: LocalHub) -> LocalHub:
    """The local Hub, empty."""
    hub_server.reset()
    return hub_server


@pytest.fixture(scope="session")
def shared_python(hub_server: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubPython]:
    interpreter = HubPython(hub_server, tmp_path_factory.mktemp("hf_home"))
    yield interpreter
    interpreter.close()


@pytest.fixture
def hub_python(hub: LocalHub, shared_python: HubPython) -> HubPython:
    """One interpreter for all tests, so that the imports are paid once; the Hub behind it is empty."""
    return shared_python


@pytest.fixture
def fresh_python(hub: LocalHub, tmp_path: Path) -> Iterator[Callable[..., HubPython]]:
    """Start a fresh interpreter, with further environment variables given by keyword."""
    started: list[HubPython] = []

    def start(**environment: str) -> HubPython:
        started.append(HubPython(hub, tmp_path / f"hf_home_{len(started)}", environment))
        return started[-1]

    yield start
    for interpreter in started:
        interpreter.close()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A small folder in the published layout."""
    return write_layout(tmp_path / "published")
