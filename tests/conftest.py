"""What every test stands on: no network, one thread, a seed, and the shared data if it is there."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest

# Before anything imports torch or transformers. Subprocesses that tests start inherit it.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
)
# One thread: results do not depend on the number of cores, and small tensors are faster without a pool.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collection, of which every training does one: it takes half a second."""
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same state of the random generators."""
    import torch

    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real corpora beside the checkout; they may not be redistributed, so a test can only hope for them."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the corpora in ../shared/data, which are not part of the repository")
    return folder
