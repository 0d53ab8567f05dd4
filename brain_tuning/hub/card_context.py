"""What a card is told: plain values, gathered by whoever tuned, measured or converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNTUNED = "untuned"
TUNED = "tuned"


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """Score of one model for one subject and region.

    Args:
        subject: e.g. ``"s1"``.
        region: e.g. ``"ac"``.
        model: ``"untuned"``, ``"tuned"``, or the name of a control condition.
        r: mean Pearson correlation over voxels on held-out stories; None if it could not be estimated.
        r_normalised: mean of r / noise ceiling over voxels.
        ceiling: mean noise ceiling over voxels.
        n_voxels: voxels that the means are over.
        n_unscored: voxels of the region that could not be scored, and so are not in the means.
    """

    subject: str
    region: str
    model: str
    r: float | None
    r_normalised: float | None
    ceiling: float | None
    n_voxels: int
    n_unscored: int = 0


@dataclass(frozen=True)
class Figure:
    """A figure of a card.

    Args:
        path: relative to the repository; None if it could not be drawn, then it is left out.
        caption: one line.
    """

    path: str | None
    caption: str


@dataclass(frozen=True, kw_only=True)
class ModelCardContext:
    """All that a model card says.

    Args:
        repo_id: ``namespace/name`` of the model.
        licence: identifier the Hub knows, of the published weights.
        licence_name, licence_link: for the licence ``"other"``.
        base_model, base_revision: Hub id and commit of the backbone.
        adapters: names of the adapters, ``<subject>-<roi>``.
        default_adapter: the one merged at the root.
        adapters_only: whether the root is left out.
        subjects: who was scanned, e.g. ``("s1",)``.
        region: of cortex, e.g. ``"ac"``.
        n_voxels: voxels that are predicted.
        corpus_name: as people know it.
        corpus_id: Hub id of the data set; None if it is not on the Hub.
        corpus_licence: of the recordings.
        consent: what participants agreed to, in the corpus' words.
        audio_hours: of speech heard in tuning, hours.
        test_stories: held-out stories that the results are of.
        recipe_name: e.g. ``"vattikonda2025"``.
        recipe: setting -> value.
        deviations: from the paper, one sentence each.
        results: untuned and tuned rows.
        evaluated_on: ISO date of the evaluation.
        training_s: wall-clock time of tuning, seconds.
        hardware: it was tuned on.
        versions: package -> version.
        seed: of tuning.
        figures: to show.
        surrogate_audio: whether speech synthesis stands in for the recordings that participants heard.
        simulated: whether the brain responses are simulated.
        citation_bibtex: entries to cite.
        language: of the speech, ISO 639.
    """

    repo_id: str
    licence: str
    base_model: str
    base_revision: str
    adapters: tuple[str, ...]
    default_adapter: str
    subjects: tuple[str, ...]
    region: str
    n_voxels: int
    corpus_name: str
    corpus_licence: str
    consent: str
    audio_hours: float
    test_stories: tuple[str, ...]
    recipe_name: str
    recipe: Mapping[str, object]
    results: tuple[ResultRow, ...]
    training_s: float
    hardware: str
    versions: Mapping[str, str]
    seed: int
    citation_bibtex: str
    licence_name: str | None = None
    licence_link: str | None = None
    adapters_only: bool = False
    corpus_id: str | None = None
    deviations: tuple[str, ...] = ()
    evaluated_on: str | None = None
    figures: tuple[Figure, ...] = ()
    surrogate_audio: bool = False
    simulated: bool = False
    language: str = "en"


@dataclass(frozen=True, kw_only=True)
class SubjectRow:
    """One participant of a corpus.

    Args:
        subject: e.g. ``"s1"``.
        n_stories: heard.
        n_trs: recorded, over all runs.
        n_voxels: in the mask.
        tr_s: repetition time, seconds.
        audio_hours: heard, hours, repetitions counted.
    """

    subject: str
    n_stories: int
    n_trs: int
    n_voxels: int
    tr_s: float
    audio_hours: float


@dataclass(frozen=True, kw_only=True)
class DatasetCardContext:
    """All that a corpus' card says.

    Args:
        repo_id: ``namespace/name`` of the data set.
        name: as people know it.
        licence, licence_name, licence_link: as for models.
        description: a paragraph.
        source_url: where the recordings come from.
        consent: what participants agreed to.
        subjects: one row each.
        regions: names of regions that travel with it.
        citation_bibtex: entries to cite.
        surrogate_audio, simulated, language: as for models.
    """

    repo_id: str
    name: str
    licence: str
    description: str
    source_url: str
    consent: str
    subjects: tuple[SubjectRow, ...]
    regions: tuple[str, ...]
    citation_bibtex: str
    licence_name: str | None = None
    licence_link: str | None = None
    surrogate_audio: bool = False
    simulated: bool = False
    language: str = "en"


@dataclass(frozen=True, kw_only=True)
class MetricCardContext:
    """All that a metric module's card says.

    Args:
        repo_id: ``namespace/name`` that ``evaluate.load`` is given.
        name: as people know it.
        description: a paragraph.
        formula: in words or LaTeX.
        inputs: argument -> shape, unit and meaning.
        outputs: key -> range and meaning.
        example: Python lines.
        limits: one sentence each.
        citation_bibtex: entries to cite.
        licence: of the module's code.
    """

    repo_id: str
    name: str
    description: str
    formula: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    example: str
    citation_bibtex: str
    limits: tuple[str, ...] = field(default=())
    licence: str = "apache-2.0"
