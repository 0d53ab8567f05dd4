"""The command ``brain-tuning``: the only module that knows all the others, and none of their numerics."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .terminal import run_command

#: responses that reach further beyond the audio than scanners run on are worth a second look
_SUSPICIOUS_S = 15.0


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run it; returns the exit code."""

    def parse_and_run() -> None:
        args = _parser().parse_args(argv)
        args.run(args)

    # Parsing as well: it imports what describes the options, and Ctrl-C may come by then.
    return run_command(parse_and_run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="brain-tuning", description="Fine-tune speech encoders on fMRI.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _corpus_commands(commands.add_parser("corpus", help="make or inspect a corpus"))
    _tune_command(commands.add_parser("tune", help="tune a backbone on a subject's region"))
    _plan_command(commands.add_parser("plan", help="say what a tuning run would take, memory of a step first"))
    _align_command(commands.add_parser("align", help="compare tuned and untuned models by brain alignment"))
    _report_command(commands.add_parser("report", help="write an alignment as one HTML page with figures"))
    _superb_command(commands.add_parser("superb", help="speech tasks: does brain-tuning help them"))
    _hub_commands(commands)
    _app_command(commands.add_parser("app", help="serve a page where audio becomes a predicted cortex"))
    _demo_command(commands.add_parser("demo", help="the whole road on simulated data, offline"))
    return parser


def _corpus_commands(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(required=True, metavar="KIND")

    lebel = kinds.add_parser("lebel2023", help="read ds003020 (LeBel et al. 2023) as OpenNeuro lays it out")
    lebel.add_argument("root", type=Path)
    lebel.add_argument("--subject", action="append", required=True, dest="subjects", help="e.g. UTS03; repeatable")
    lebel.add_argument("--story", action="append", dest="stories", help="only these stories; repeatable")
    lebel.add_argument("--test", action="append", help="test story (default: wheretheressmoke)")
    lebel.add_argument("--validation", action="append", help="validation story (default: fromboyhoodtofatherhood)")
    lebel.add_argument("--regions", type=Path, help="YAML, JSON or npz: region -> voxel indices (one subject)")
    lebel.set_defaults(run=_lebel2023)

    folder = kinds.add_parser("folder", help="read audio and responses that a corpus.yaml describes")
    folder.add_argument("root", type=Path)
    folder.set_defaults(run=_folder)

    simulated = kinds.add_parser("simulate", help="simulate stories and listeners with a known truth")
    simulated.add_argument("--subjects", type=int, default=2)
    simulated.add_argument("--stories", type=int, default=12, help="training stories")
    simulated.add_argument("--story-s", type=float, default=180.0)
    simulated.add_argument("--test-story-s", type=float, default=480.0)
    simulated.add_argument("--repeats", type=int, default=10, help="listenings to the test story")
    simulated.add_argument("--seed", type=int, default=0)
    simulated.add_argument("--layout", choices=("corpus", "ds003020"), default="corpus")
    simulated.set_defaults(run=_simulate)

    for reader in (lebel, folder):
        reader.add_argument("--convert-audio", action="store_true", help="downmix and resample to 16 kHz mono")
        reader.add_argument("--bold-dtype", choices=("float32", "float16"), default="float32")
    for maker in (lebel, folder, simulated):
        maker.add_argument("--output", type=Path, required=True, help="corpus folder to write")
        maker.add_argument("--overwrite", action="store_true", help="replace an existing corpus")

    inspect = kinds.add_parser("inspect", help="say what a corpus holds")
    inspect.add_argument("corpus", help="folder or Hub id")
    inspect.set_defaults(run=_inspect)

    from .hub.command import add_corpus_card_arguments, write_card_of_corpus

    text = "write the data set card of a corpus; it replaces the README.md that the corpus was made with"
    card = kinds.add_parser("card", help=text, description=text)
    add_corpus_card_arguments(card)
    card.set_defaults(run=write_card_of_corpus)


def _lebel2023(args: argparse.Namespace) -> None:
    from .corpus.readers.lebel2023 import read_lebel2023

    made = read_lebel2023(
        args.root,
        subjects=args.subjects,
        stories=args.stories,
        destination=args.output,
        test=args.test,
        validation=args.validation,
        regions=args.regions,
        convert_audio=args.convert_audio,
        overwrite=args.overwrite,
        bold_dtype=args.bold_dtype,
    )
    _print_made(made)


def _folder(args: argparse.Namespace) -> None:
    from .corpus.readers.folder import read_folder

    made = read_folder(
        args.root,
        destination=args.output,
        convert_audio=args.convert_audio,
        overwrite=args.overwrite,
        bold_dtype=args.bold_dtype,
    )
    _print_made(made)


def _print_made(place: Path) -> None:
    from .corpus import open_corpus

    summary = open_corpus(place).summary()
    print(f"corpus: {place}")
    for subject, said in summary["subjects"].items():
        counts, least = said["voxels"], said["least_covered"]
        lost = ", ".join(f"{n:,} {status}" for status, n in counts.items() if n and status != "ok")
        print(f"{subject}: {counts['ok']:,} of {said['n_voxels']:,} voxels usable" + f" ({lost})" * bool(lost))
        print(f"{subject}: least covered is {least['story']}, {least['responses_s']} of {least['audio_s']} s of audio")
        if least["beyond_s"] > _SUSPICIOUS_S:
            print(f"{subject}: responses reach up to {least['beyond_s']} s beyond the audio; look at onset_s and tr_s")
    for note in summary["notes"]:
        print(f"note: {note}")


def _simulate(args: argparse.Namespace) -> None:
    from .corpus.simulator.ds003020 import write_tree
    from .corpus.simulator.simulate import Simulation, simulate

    settings = Simulation(
        n_subjects=args.subjects,
        n_train_stories=args.stories,
        story_s=args.story_s,
        test_story_s=args.test_story_s,
        n_repeats=args.repeats,
        seed=args.seed,
    )
    write = simulate if args.layout == "corpus" else write_tree
    print(f"{args.layout}: {write(args.output, settings, overwrite=args.overwrite)}")


def _inspect(args: argparse.Namespace) -> None:
    from .corpus import open_corpus

    print(json.dumps(open_corpus(args.corpus).summary(), indent=2))


def _tune_command(parser: argparse.ArgumentParser) -> None:
    from .tuning.command import add_arguments, run

    add_arguments(parser)
    parser.set_defaults(run=run)


def _plan_command(parser: argparse.ArgumentParser) -> None:
    from .tuning.plan_command import add_arguments, run

    add_arguments(parser)
    parser.set_defaults(run=run)


def _align_command(parser: argparse.ArgumentParser) -> None:
    from .analysis.command import add_arguments, run

    add_arguments(parser)
    parser.set_defaults(run=run)


def _report_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("alignments", type=Path, nargs="+", metavar="ALIGNMENT", help="folder that align has written")
    parser.add_argument(
        "--run", type=Path, action="append", default=[], dest="runs", metavar="RUN",
        help="folder that tune has written, whose training curve to show; repeatable",
    )  # fmt: skip
    parser.add_argument("--title", help="of the page (default: the corpus's name)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="HTML file to write")
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> None:
    from .report.of_alignment import write_report_of

    print(f"report: {write_report_of(args.alignments, args.output, runs=args.runs, title=args.title)}")


def _superb_command(parser: argparse.ArgumentParser) -> None:
    from .superb.command import add_arguments, run

    add_arguments(parser)
    parser.set_defaults(run=run)


def _hub_commands(commands: Any) -> None:
    from .hub import command

    for name, text, add_arguments, run in (
        ("push", "publish tuning runs to the Hub", command.add_push_arguments, command.push_runs),
        ("push-metric", "publish metric modules as Spaces", command.add_metric_arguments, command.push_metrics),
        ("pull", "download and check a repository", command.add_pull_arguments, command.pull_repository),
        ("list", "table of published adapters", command.add_list_arguments, command.list_adapters),
        ("compare", "published adapters side by side", command.add_compare_arguments, command.compare_repositories),
    ):
        parser = commands.add_parser(name, help=text)
        add_arguments(parser)
        parser.set_defaults(run=run)


def _app_command(parser: argparse.ArgumentParser) -> None:
    from .app.command import add_arguments, run

    add_arguments(parser)
    parser.set_defaults(run=run)


def _demo_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=int, default=0, help="of the simulation and of tuning")
    parser.add_argument("--control", action="store_true", help="also tune on shuffled stories, which must gain nothing")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> None:
    from .demo import run_demo

    run_demo(args.output, seed=args.seed, control=args.control)


if __name__ == "__main__":
    sys.exit(main())
