"""The card of a corpus: what it is told, from the corpus itself, and where it is written."""

from __future__ import annotations

from pathlib import Path

from brain_tuning.atomic import whole_file
from brain_tuning.corpus import Corpus, open_corpus
from brain_tuning.corpus.fingerprint import corpus_fingerprint

from .card_citations import corpus_bibtex
from .card_context import DatasetCardContext, SubjectRow
from .cards import render_dataset_card
from .connection import check_repo_id
from .front_matter import check_dataset_card
from .private_text import check_private_text

CARD = "README.md"

_KINDS = ("runs", "bold", "voxels", "regions")


def write_corpus_card(
    folder: Path,
    *,
    repo_id: str,
    licence: str | None = None,
    licence_name: str | None = None,
    licence_link: str | None = None,
    consent: str = "",
    description: str = "",
) -> Path:
    """Write the card of a corpus as its ``README.md``, whole or not at all, in place of the one that is there.

    Args:
        folder: of the corpus.
        repo_id: ``namespace/name`` it is meant for.
        licence: identifier the Hub knows; None for what the corpus says, e.g. ``CC0 1.0``, spelt as the Hub does.
        licence_name, licence_link: of ``"other"``.
        consent: what participants agreed to, in the corpus' words; empty refers to its source.
        description: a paragraph; empty for the fact alone.

    Returns:
        The card's file.

    Raises:
        CorpusError: the folder is no corpus.
        PublishError: the name is not valid, the Hub does not know the licence, or the card would name a path of this
            machine.
        StorageError: the file cannot be written.
    """
    check_repo_id(repo_id)
    corpus = open_corpus(folder)
    simulated = "simulation" in (corpus.meta.get("extra") or {})
    unsaid = (
        "Simulated responses: nobody was scanned." if simulated else "See the source for what participants agreed to."
    )
    context = corpus_card_context(
        corpus,
        repo_id=repo_id,
        licence=licence or "-".join(str(corpus.meta["licence"]).lower().split()),
        licence_name=licence_name,
        licence_link=licence_link,
        consent=consent or unsaid,
        description=description,
        citation_bibtex=corpus_bibtex(corpus.name, str(corpus.meta["source"])),
    )
    text = render_dataset_card(context)
    check_dataset_card(text)
    check_private_text(text, CARD)
    with whole_file(corpus.path / CARD) as partial:
        partial.write_text(text, encoding="utf-8")
    return corpus.path / CARD


def corpus_card_context(
    corpus: Corpus,
    *,
    repo_id: str,
    licence: str,
    consent: str,
    description: str = "",
    citation_bibtex: str = "",
    licence_name: str | None = None,
    licence_link: str | None = None,
    command: str = "",
    language: str = "en",
) -> DatasetCardContext:
    """Gather what a corpus' card says; the responses are read once, for the fingerprints.

    Args:
        corpus: to publish.
        repo_id: ``namespace/name`` it is meant for.
        licence: identifier the Hub knows; ``"other"`` with ``licence_name`` and ``licence_link``.
        consent: what participants agreed to.
        description: a paragraph; empty for the fact alone.
        citation_bibtex: entries to cite.
        command: that made it.
        language: of the speech, ISO 639.
    """
    stories = [corpus.story(name) for name in corpus.story_names()]
    subjects = corpus.subjects
    regions = dict.fromkeys(name for subject in subjects for name in corpus.regions(subject))
    return DatasetCardContext(
        repo_id=repo_id,
        name=corpus.name,
        licence=licence,
        licence_name=licence_name,
        licence_link=licence_link,
        description=description or "fMRI responses of people who listened to stories, with the stories.",
        source_url=str(corpus.meta["source"]),
        consent=consent,
        subjects=tuple(_subject_row(corpus, subject) for subject in subjects),
        regions=tuple(regions),
        citation_bibtex=citation_bibtex,
        surrogate_audio=corpus.surrogate_audio,
        simulated="simulation" in (corpus.meta.get("extra") or {}),
        language=language,
        tables=("stories", *(f"{kind}-{subject}" for subject in subjects for kind in _KINDS)),
        test_stories=tuple(corpus.meta["splits"].get("test", ())),
        validation_stories=tuple(corpus.meta["splits"].get("validation", ())),
        bold_dtype=str(corpus.meta.get("bold_dtype", "float32")),
        ledgers={subject: corpus.ledger(subject).counts() for subject in subjects},
        fingerprints={subject: corpus_fingerprint(corpus, subject) for subject in subjects},
        made_with=dict(corpus.meta.get("versions") or {}),
        command=command,
        has_words=all(story.words for story in stories),
        has_phones=all(story.phones for story in stories),
        notes=tuple(corpus.meta["notes"]),
    )


def _subject_row(corpus: Corpus, subject: str) -> SubjectRow:
    runs = corpus.runs(subject)
    return SubjectRow(
        subject=subject,
        n_stories=len({run.story for run in runs}),
        n_trs=sum(run.n_trs for run in runs),
        n_voxels=corpus.n_voxels(subject),
        tr_s=runs[0].tr_s,
        audio_hours=sum(run.n_trs * run.tr_s for run in runs) / 3600,
    )
