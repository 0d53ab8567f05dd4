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
        tuned_on: subject whose responses the model was tuned on; None if it was not tuned.
        adapter: name of the adapter that made the features; None if it was not tuned.
        layer: index into ``hidden_states`` that was read.
        r_low, r_high: 95 % interval of r; None where there is none.
        interval: how the interval was computed, or why there is none.
        p: of the test of r against chance.
        difference: r - r of the untuned model.
        p_difference: of the paired test of that difference on these stories.
        p_stories: of the paired test with stories as clusters.
    """

    subject: str
    region: str
    model: str
    r: float | None
    r_normalised: float | None
    ceiling: float | None
    n_voxels: int
    n_unscored: int = 0
    tuned_on: str | None = None
    adapter: str | None = None
    layer: int | None = None
    r_low: float | None = None
    r_high: float | None = None
    interval: str = ""
    p: float | None = None
    difference: float | None = None
    p_difference: float | None = None
    p_stories: float | None = None

    @property
    def is_tuned(self) -> bool:
        """Whether brain responses made the features what they are."""
        return self.model == TUNED or self.tuned_on is not None


@dataclass(frozen=True, kw_only=True)
class AdapterRow:
    """One adapter of a repository.

    Args:
        name: of the adapter, its folder below ``adapters/``.
        subject: whose responses it was tuned on.
        region: the region, or expression, that it was tuned on.
        n_voxels: that its head predicts.
    """

    name: str
    subject: str
    region: str
    n_voxels: int


@dataclass(frozen=True, kw_only=True)
class ImpactRow:
    """How much alignment a model loses when low-level features are removed from its features.

    Args:
        subject, region, model, tuned_on, adapter, layer: as in :class:`ResultRow`.
        removed: low-level features, e.g. ``"spectrum"`` or ``"phones"``.
        r: mean over voxels with all features.
        r_without: with what low-level features predict linearly taken away.
        impact_percent: 100 (r - r_without) / r; None where r is too small to divide by.
        low, high: 95 % interval of the impact, per cent; None where there is none.
        interval: how the interval was computed, or why there is none.
        n_voxels: that the means are over.
    """

    subject: str
    region: str
    model: str
    removed: str
    r: float | None
    r_without: float | None
    impact_percent: float | None
    n_voxels: int
    low: float | None = None
    high: float | None = None
    interval: str = ""
    tuned_on: str | None = None
    adapter: str | None = None
    layer: int | None = None

    @property
    def is_tuned(self) -> bool:
        """As of :class:`ResultRow`."""
        return self.model == TUNED or self.tuned_on is not None


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """A mean over subjects, as ``group.json`` has it.

    Args:
        model, region: as in :class:`ResultRow`.
        score: ``r``, ``r_normalised``, ``difference`` or ``low_level_impact`` (per cent).
        mean: over subjects.
        low, high: 95 % interval; None where it cannot be estimated.
        n_subjects: how many.
        tuned_on: None, ``self``, ``other`` or ``group``: what those it was tuned on are to the subject.
        removed: of ``low_level_impact``, the low-level features.
        notes: what limits the result.
    """

    model: str
    region: str
    score: str
    mean: float
    low: float | None
    high: float | None
    n_subjects: int
    tuned_on: str | None = None
    removed: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """Commands that lead from the data to the repository, and the recipe they need.

    Args:
        corpus: makes the corpus; empty where only its makers can.
        tune: one for each tuning run.
        align: one for each subject who was evaluated.
        push: publishes.
        recipe_files: name -> content of the recipes that ``tune`` names; empty if shipped ones are enough.
    """

    corpus: str = ""
    tune: tuple[str, ...] = ()
    align: tuple[str, ...] = ()
    push: str = ""
    recipe_files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure of a card.

    Args:
        path: relative to the repository; None if it could not be drawn, then it is left out.
        caption: one line.
        reason: why there is none.
    """

    path: str | None
    caption: str
    reason: str = ""


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
        n_voxels: voxels that the default adapter predicts; those of several may be the same, and are never added up.
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
        training_s: wall-clock time of tuning, of all sessions together, seconds.
        hardware: it was tuned on.
        versions: package -> version.
        seed: of tuning; of several runs with different ones a text that names all.
        figures: to show.
        surrogate_audio: whether speech synthesis stands in for the recordings that participants heard.
        simulated: whether the brain responses are simulated.
        citation_bibtex: entry of the paper whose recipe this is; see :mod:`brain_tuning.hub.card_citations`.
        language: of the speech, ISO 639.
        family: transformers' ``model_type`` of the backbone.
        layer: index into ``hidden_states`` that the head reads; None leaves it unsaid.
        lora: whether LoRA was tuned; False for the whole backbone.
        adapter_rows: what each adapter is for; empty for none but ``subjects`` and ``region``.
        revision: tag or commit of this repository to show in the example; None for the newest.
        base_on_hub: whether the backbone has a page on the Hub; a bundled one has none.
        recipe_source: the publication, in words.
        recipe_paper: URL of the publication.
        n_trained_parameters: in the backbone and the heads together.
        low_level: impact rows; empty where it was not measured.
        group: means over subjects; empty for one subject.
        rerun: the road from data to this repository; see :func:`brain_tuning.hub.card_commands.rerun`.
        corpus_source: where the recordings come from, in words or as a URL.
        corpus_fingerprints: subject -> fingerprint of the responses and stories that were used; see
            :func:`brain_tuning.corpus.fingerprint.corpus_fingerprint`.
        corpus_bibtex: entry of the corpus.
        lora_bytes, head_bytes: of the default adapter's two files; None leaves them unsaid.
        n_processes: that tuned side by side.
        mixed_precision: of tuning.
        energy_kwh: measured; None if it was not.
        power_w: mean power of the machine while tuning, stated by the user.
        carbon_g_per_kwh: of the electricity, stated by the user.
        location: where it ran, e.g. ``"Germany"``.
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
    seed: int | str
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
    family: str = "wavlm"
    layer: int | None = None
    lora: bool = True
    adapter_rows: tuple[AdapterRow, ...] = ()
    revision: str | None = None
    base_on_hub: bool = True
    recipe_source: str = ""
    recipe_paper: str | None = None
    n_trained_parameters: int | None = None
    low_level: tuple[ImpactRow, ...] = ()
    group: tuple[GroupRow, ...] = ()
    rerun: Rerun | None = None
    corpus_source: str = ""
    corpus_fingerprints: Mapping[str, str] = field(default_factory=dict)
    corpus_bibtex: str = ""
    lora_bytes: int | None = None
    head_bytes: int | None = None
    n_processes: int | None = None
    mixed_precision: str | None = None
    energy_kwh: float | None = None
    power_w: float | None = None
    carbon_g_per_kwh: float | None = None
    location: str | None = None


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
        tables: names of the tables, e.g. ``stories`` and ``bold-s1``, as ``datasets`` opens them.
        test_stories, validation_stories: held out.
        bold_dtype: of the responses.
        ledgers: subject -> status of voxels (ok, nan, constant, excluded) -> how many.
        fingerprints: subject -> digest of responses and stories.
        made_with: package -> version that wrote it.
        command: that made it from the source.
        has_words, has_phones: whether every story has a transcript with times.
        notes: what its maker says besides, one sentence each.
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
    tables: tuple[str, ...] = ()
    test_stories: tuple[str, ...] = ()
    validation_stories: tuple[str, ...] = ()
    bold_dtype: str = "float32"
    ledgers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    has_words: bool = False
    has_phones: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MetricCardContext:
    """All that a metric module's card says.

    Args:
        repo_id: ``namespace/name`` that ``evaluate.load`` is given.
        name: as people know it.
        description: a paragraph; names between backticks are code in it, as in ``inputs``, ``outputs`` and ``limits``.
        formula: in plain text, as it is to be read.
        inputs: argument -> shape, unit and meaning.
        outputs: key -> range and meaning.
        example: Python lines.
        citation_bibtex: entries to cite; empty for none.
        sdk_version: of gradio, which serves the Space's page.
        limits: one sentence each.
        licence: of the module's code.
        requirements: what pip must install.
        result: what ``example`` leaves, as it is printed.
    """

    repo_id: str
    name: str
    description: str
    formula: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    example: str
    citation_bibtex: str
    sdk_version: str
    limits: tuple[str, ...] = field(default=())
    licence: str = "apache-2.0"
    requirements: tuple[str, ...] = ("evaluate", "brain-tuning")
    result: str = ""
