from __future__ import annotations

import pytest

from brain_tuning.corpus.simulator.simulate import Simulation, World


@pytest.fixture(scope="session")
def world() -> World:
    """Long enough for statistics: eight stories of 80 s, a test story of 240 s heard eight times."""
    return World(Simulation(n_subjects=2, n_train_stories=8, story_s=80, test_story_s=240, n_repeats=8, seed=3))
