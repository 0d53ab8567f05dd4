"""Which stories are for training, validation and test.

A split is made by story, so that no two TRs of different splits share stimulus or haemodynamics. Where
a data set holds a single story, it can be cut into contiguous pieces instead; the pieces then touch at
their borders, and ``check_leaks`` sees to it that they do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from brain_tuning.corpus.schema import SPLITS, Run
from brain_tuning.errors import CorpusError

#: ds003020: the story heard ten (five) times is the test, as in all work on this data set; the
#: validation story is that of the published encoding models.
LEBEL2023_TEST = ("wheretheressmoke",)
LEBEL2023_VALIDATION = ("fromboyhoodtofatherhood",)


def assign_splits(stories: Iterable[str], *, test: Sequence[str], validation: Sequence[str] = ()) -> dict[str, str]:
    """Split of every story: test and validation by name, the rest for training.

    Args:
        stories: names of all stories.
        test: names of the test stories.
        validation: names of the validation stories.

    Returns:
        ``"train"``, ``"validation"`` or ``"test"`` by story, in the order given.

    Raises:
        CorpusError: a story is named for both, or is not among ``stories``.
    """
    names = list(stories)
    both = sorted(set(test) & set(validation))
    if both:
        raise CorpusError("a story is named for test and for validation", where=", ".join(both))
    unknown = [name for name in (*test, *validation) if name not in names]
    if unknown:
        raise CorpusError(
            "a story named for test or validation does not exist",
            where=", ".join(unknown),
            expected=f"one of {', '.join(names)}",
        )
    return {name: "test" if name in test else "validation" if name in validation else "train" for name in names}


def stories_by_split(runs: Iterable[Run]) -> dict[str, list[str]]:
    """Names of the stories of each split, in the order of the runs; a story in pieces may be in several."""
    found: Mapping[str, dict[str, None]] = {split: {} for split in SPLITS}
    for run in runs:
        found[run.split][run.story] = None
    return {split: list(names) for split, names in found.items()}


def check_leaks(runs: Sequence[Run], audio: Mapping[str, bytes]) -> None:
    """See to it that no moment of a story is in two splits, whoever heard it, and under whatever name.

    Args:
        runs: the runs of all subjects.
        audio: story -> digest of its waveform.

    Raises:
        CorpusError: runs of different splits cover the same part of a story, or stories of the same audio; a model
            tuned on one subject's training runs would have heard another's test story.
    """
    heard: dict[bytes, Run] = {}
    for run in runs:
        first = heard.setdefault(audio[run.story], run)
        if first.story != run.story and first.split != run.split:
            raise CorpusError(
                f"the audio of {run.story} ({run.split}) is that of {first.story} ({first.split})",
                where=f"subject {run.subject}",
                expected="audio in one split only, for all subjects",
                remedy="give both the same name, or check which file belongs to which story",
            )
    spans = sorted({(run.story, run.onset_s, run.end_s, run.split, run.subject) for run in runs})
    # Per story and split, the end of the latest span so far; spans come in order of their start.
    latest: dict[tuple[str, str], tuple[float, str]] = {}
    for story, onset_s, end_s, split, subject in spans:
        for other in SPLITS:
            other_end_s, other_subject = latest.get((story, other), (onset_s, ""))
            if other != split and other_end_s - onset_s > 1e-3:
                raise CorpusError(
                    f"{onset_s:.1f} to {min(end_s, other_end_s):.1f} s of the story are in {other} (subject "
                    f"{other_subject}) and in {split} (subject {subject})",
                    where=story,
                    expected="a part of a story in one split only, for all subjects",
                )
        if end_s > latest.get((story, split), (float("-inf"), ""))[0]:
            latest[story, split] = (end_s, subject)
