"""Files that ship beside the package are found in the checkout, then in the installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from brain_tuning import shared_files
from brain_tuning.errors import BrainTuningError
from brain_tuning.shared_files import shared_file

CHECKOUT = Path(__file__).resolve().parents[1]


def test_checkout_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "hub_cards/model_card.md.jinja"
    (tmp_path / "hub_cards").mkdir()
    (tmp_path / name).write_text("installed")
    assert shared_file(name) == CHECKOUT / name
    monkeypatch.setattr(shared_files, "_places", lambda: [tmp_path / "elsewhere", tmp_path])
    assert shared_file(name).read_text() == "installed"
    assert shared_file("hub_cards") == tmp_path / "hub_cards"


def test_installed_files_are_looked_for_under_share() -> None:
    checkout, *installed = shared_files._places()
    assert checkout == CHECKOUT
    assert installed
    assert all(place.parts[-2:] == ("share", "brain_tuning") for place in installed)


def test_missing_file_names_itself_and_the_remedy() -> None:
    with pytest.raises(BrainTuningError) as caught:
        shared_file("hub_cards/none.jinja")
    assert "is missing [hub_cards/none.jinja]" in str(caught.value)
    assert "pip install --force-reinstall brain-tuning" in str(caught.value)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "hub_cards/../../x"])
def test_names_stay_inside(name: str) -> None:
    with pytest.raises(BrainTuningError, match="named by its path in the checkout"):
        shared_file(name)
