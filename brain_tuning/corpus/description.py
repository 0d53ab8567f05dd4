"""The data set card that goes with a corpus."""

from __future__ import annotations

from collections.abc import Mapping

_HUB_LICENCES = ("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "mit", "apache-2.0", "pddl", "odbl")


def readme(description: Mapping[str, object]) -> str:
    """Data set card: which files make which table, and what whoever publishes the folder should know."""
    subjects = description["subjects"]
    assert isinstance(subjects, list)
    configs = ["stories"]
    configs += [f"{kind}-{subject}" for subject in subjects for kind in ("runs", "bold", "voxels", "regions")]
    licence = str(description["licence"])
    known = licence.lower().replace(" ", "-")
    lines = ["---", f"license: {known if known in _HUB_LICENCES else 'other'}", "tags:", "- fmri", "- speech"]
    lines.append("configs:")
    for config in configs:
        lines += [f"- config_name: {config}", f"  data_files: {config}/*.arrow"]
    audio = "synthetic; it is NOT what the subjects heard" if description["surrogate_audio"] else "as recorded"
    lines += [
        "---",
        f"# {description['name']}",
        "",
        "fMRI responses to stories, as a corpus of the `brain_tuning` package:",
        '`brain_tuning.corpus.open_corpus(...)`, or `datasets.load_dataset(..., "stories")` table by table.',
        "",
        f"- Source: {description['source']}",
        f"- Licence: {licence}",
        f"- Audio: {audio}",
        f"- Subjects: {', '.join(subjects)}",
        "",
        "Privacy: these are measurements of people's brains. Do not try to identify anyone. Before you",
        "upload this folder, check that the participants' consent and the licence above allow it. It holds",
        "no anatomical images.",
        "",
    ]
    return "\n".join(lines)
