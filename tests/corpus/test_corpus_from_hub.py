from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from corpus_builders import run_input

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "hub"))

from local_hub import WRITE_TOKEN, LocalHub  # noqa: E402

CLIENT = """
import json, sys
import datasets, huggingface_hub
from brain_tuning.corpus import open_corpus
from brain_tuning.errors import CorpusError

def refusal(repo, **options):
    try:
        open_corpus(repo, **options)
    except CorpusError as error:
        return str(error)

folder, cache = sys.argv[1:]
api = huggingface_hub.HfApi()
api.create_repo("tester/small", repo_type="dataset")
commit = api.upload_folder(repo_id="tester/small", repo_type="dataset", folder_path=folder)
api.create_repo("tester/other", repo_type="dataset")
corpus = open_corpus("tester/small")
pinned = open_corpus("tester/small", revision=commit.oid)
run = corpus.runs("s1")[0]
stories = datasets.load_dataset("tester/small", "stories", cache_dir=cache)["train"]
print(json.dumps({
    "stories": corpus.story_names(),
    "same": pinned.path == corpus.path,
    "bold": corpus.bold(run).tolist(),
    "samples": len(corpus.audio("wood")),
    "loaded": stories["story"][:],
    "no corpus": refusal("tester/other"),
    "no repository": refusal("tester/none"),
    "no revision": refusal("tester/small", revision="v9"),
    "local revision": refusal(folder, revision="main"),
}))
"""


def test_a_plain_upload_of_the_folder_opens_from_the_hub(make: Callable[..., Path], tmp_path: Path) -> None:
    hub = LocalHub()
    try:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        for_hub = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": WRITE_TOKEN,
            "HF_HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(TESTS.parent),
        }
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, str(make()), str(tmp_path / "cache")],
            capture_output=True,
            text=True,
            env={**clean, **for_hub},
            check=False,
        )
    finally:
        hub.close()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["stories"] == told["loaded"] == ["wood", "wind"]
    assert told["bold"] == run_input().bold.tolist()
    assert told["samples"] == 640_000
    assert told["same"]
    assert told["no corpus"].startswith("corpus.json is missing or cannot be reached [tester/other]")
    assert told["no repository"].startswith("there is neither such a folder nor such a data set")
    assert "v9" in told["no revision"]
    assert told["local revision"].startswith("a revision is given for a local folder")
