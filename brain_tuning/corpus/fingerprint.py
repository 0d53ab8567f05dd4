"""A digest of the data that a result is of, so that whoever runs it again knows whether theirs are the same."""

from __future__ import annotations

import hashlib

import numpy as np

from brain_tuning.corpus.store import Corpus


def corpus_fingerprint(corpus: Corpus, subject: str) -> str:
    """Digest of a subject's responses and of the stories that were heard.

    It covers story names, lengths in samples, words and phones with their times; splits, timing and order of the runs;
    and every response. It does not depend on how or when the corpus was written, but on the precision it is stored in.

    Args:
        corpus: read a run at a time.
        subject: whose responses.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    runs = corpus.runs(subject)
    for name in sorted({run.story for run in runs}):
        story = corpus.story(name)
        spoken = [(one.text, one.start_s, one.end_s) for one in (*story.words, *story.phones)]
        digest.update(repr((name, corpus.n_samples(name), spoken)).encode())
    for run in sorted(runs, key=lambda run: (run.story, run.run, run.repeat)):
        about = (run.story, run.run, run.repeat, run.split, run.tr_s, run.onset_s, run.n_trs)
        digest.update(repr(about).encode())
        bold = np.ascontiguousarray(corpus.bold(run))
        digest.update(f"{bold.dtype.str} {bold.shape}".encode())
        digest.update(bold.tobytes())
    return digest.hexdigest()
