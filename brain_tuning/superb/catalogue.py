"""Which data set serves which task, and the file in which a user says where they are.

Example, as YAML::

    pr: {root: /data/LibriSpeech, lexicons: [/data/librispeech-lexicon.txt]}
    ks: /data/speech_commands
    er: {reader: hub_dataset, source: lab/emotions, columns: {audio: audio, classes: emotion}, splits: {train: train,
         dev: validation, test: test}, cache: /data/flac}
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from brain_tuning.errors import TaskDataError
from brain_tuning.strict_yaml import parse_yaml

from .examples import TaskData
from .tasks import TASKS, Task

#: licence of synthesised stand-ins
SYNTHESISED = "none of the data set's: the speech is synthesised"
#: reader -> module and function; readers of folders take ``root``
READERS: dict[str, str] = {
    "librispeech-pr": "librispeech.read_pr",
    "librispeech-asr": "librispeech.read_asr",
    "speech-commands-ks": "speech_commands.read_ks",
    "speech-commands-words": "speech_commands.read_words",
    "quesst14": "quesst14.read",
    "voxceleb1-sid": "voxceleb1.read_sid",
    "voxceleb1-asv": "voxceleb1.read_asv",
    "librimix": "librimix.read",
    "fluent-speech-commands": "fluent_speech_commands.read",
    "snips": "snips.read",
    "slurp-sf": "slurp.read_sf",
    "slurp-intent": "slurp.read_intent",
    "iemocap": "iemocap.read",
    "timit-asr": "timit.read_asr",
    "timit-phonemes": "timit.read_phonemes",
    "timit-sentence-type": "timit.read_sentence_type",
    "crema-d": "crema_d.read",
    "hub_dataset": "hub_dataset.read",
}
#: task -> reader of the data set that SUPERB, or the paper, uses
OFFICIAL: dict[str, str] = {
    "pr": "librispeech-pr",
    "asr": "librispeech-asr",
    "ks": "speech-commands-ks",
    "qbe": "quesst14",
    "sid": "voxceleb1-sid",
    "asv": "voxceleb1-asv",
    "sd": "librimix",
    "ic": "fluent-speech-commands",
    "sf": "snips",
    "er": "iemocap",
    "phonemes": "timit-phonemes",
    "sentence-type": "timit-sentence-type",
    "words": "speech-commands-words",
    "intent": "slurp-intent",
    "emotion": "crema-d",
}


def read_data(task: Task, said: Any, *, where: object = "--data") -> tuple[TaskData, ...]:
    """Read the data of a task.

    Args:
        task: that they are for.
        said: a folder in the official layout, or a mapping with ``root`` (or ``source``), the name of a ``reader`` and
            its own options.
        where: that was said, for errors.

    Raises:
        TaskDataError: no such reader or option, or the data are not in its layout.
    """
    options: dict[str, Any] = dict(said) if isinstance(said, Mapping) else {"root": said}
    name = str(options.pop("reader", OFFICIAL[task.key]))
    if name not in READERS:
        raise TaskDataError(
            f"there is no reader {name!r}", where=f"{where}: {task.key}", expected=_nearest(name, list(READERS))
        )
    read = _reader(name)
    known = {key: about for key, about in inspect.signature(read).parameters.items() if key != "task"}
    if "task" in inspect.signature(read).parameters:
        options["task"] = task.key
    for key in options:
        if key not in known and key != "task":
            raise TaskDataError(
                f"the reader {name} has no option {key!r}",
                where=f"{where}: {task.key}",
                expected=_nearest(str(key), list(known)),
            )
    missing = [key for key, about in known.items() if about.default is inspect.Parameter.empty and key not in options]
    if missing:
        raise TaskDataError(f"the reader {name} needs {missing[0]!r}", where=f"{where}: {task.key}")
    typed = {key: _typed(value, str(known[key].annotation) if key in known else "") for key, value in options.items()}
    # A stand-in holds none of the data whose layout it has.
    return tuple(replace(one, licence=SYNTHESISED) if one.synthetic else one for one in read(**typed))


def read_data_file(path: Path) -> dict[str, Any]:
    """What a YAML file says of each task's data.

    Raises:
        TaskDataError: the file is missing, no YAML mapping, or names a task that there is not.
    """
    try:
        said = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskDataError(
            f"the file cannot be read ({error})", where=path, expected="YAML: task -> folder"
        ) from error
    if not isinstance(said, dict):
        raise TaskDataError("the file is no mapping", where=path, expected="lines of 'task: folder'")
    for key in said:
        if key not in TASKS:
            raise TaskDataError(f"there is no task {key!r}", where=path, expected=_nearest(str(key), list(TASKS)))
    return said


def _reader(name: str) -> Callable[..., tuple[TaskData, ...]]:
    module, _, function = READERS[name].partition(".")
    return getattr(importlib.import_module(f"{__package__}.data.{module}"), function)


def _typed(value: Any, annotation: str) -> Any:
    """Paths as paths, as the reader's signature asks for."""
    if "Path" not in annotation or value is None:
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [Path(one).expanduser() for one in value]
    return value if annotation.startswith("str") else Path(value).expanduser()


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return repr(close[0]) if close else f"one of {', '.join(known)}"
