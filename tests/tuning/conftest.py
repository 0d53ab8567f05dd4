from __future__ import annotations

from paper_runs import papers
from tiny_runs import corpus, one_thread, tuned_run, work_folder

__all__ = ["corpus", "one_thread", "papers", "tuned_run", "work_folder"]
