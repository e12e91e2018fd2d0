"""Fixtures that give the fakes of `tests/support/fakes.py`."""

import pytest
from fakes import STREAMS, FakeDataset, FakeEncoders


@pytest.fixture(scope="session")
def fake_dataset() -> type[FakeDataset]:
    return FakeDataset


@pytest.fixture(scope="session")
def fake_encoders() -> type[FakeEncoders]:
    return FakeEncoders


@pytest.fixture(scope="session")
def fake_streams() -> tuple[str, ...]:
    return STREAMS
