"""`python -m frostline_trainer`: what a trainer pod or process runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

_EPILOG = """\
run      reads one RunSpec document from FROSTLINE_RUN (JSON, or @/path/to/file), trains its trials, serves /metrics,
         and writes a RunResult to FROSTLINE_RESULT (by default the Kubernetes termination log).
         Exit codes: 0 done, 42 out of device memory, 43 the study is at fault, 44 the device,
         driver or storage failed, 45 no space is left to write to, 143 stopped with a checkpoint.
clean    removes checkpoints of one study: those that are named, or all of them.
check    opens a study's data and builds the network of each choice once, and says all that is wrong.
export   writes a trained trial whole: its layers together with the frozen ones.
profile  prints what a model costs at each number of trainable layers, without training or allocating it.

examples:
  FROSTLINE_RUN=@run.json FROSTLINE_RESULT=result.json python -m frostline_trainer run
  python -m frostline_trainer profile @run.json --format table
"""


_WHERE = "where runs will be: on a GPU or the CPU of this machine, or elsewhere, with other files (default: cpu)"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m frostline_trainer",
        description="Trains the last layers of one or several trials, or tells what that would cost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="evaluate the run that FROSTLINE_RUN describes")
    profile = commands.add_parser("profile", help="FLOPs, parameters and peak memory of a model at each z")
    profile.add_argument(
        "document",
        help="JSON with model, data and training (a RunSpec will do), or @ and the path of a file that holds it",
    )
    profile.add_argument("--format", choices=("json", "table"), default="json", help="default: json")
    profile.add_argument(
        "--memory",
        choices=("cuda", "cpu", "none"),
        default="cuda",
        help="whose memory to foretell: a GPU's, a CPU run's with a declared limit, or none (default: cuda)",
    )
    profile.add_argument("--check", metavar="DOCUMENT", help="another document: try out its variants first, see check")
    profile.add_argument("--where", choices=("gpu", "cpu", "elsewhere"), default="cpu", help=_WHERE)
    check = commands.add_parser("check", help="open the data and build the network of a document and its variants")
    check.add_argument("document", help="JSON as for profile")
    check.add_argument("--where", choices=("gpu", "cpu", "elsewhere"), default="cpu", help=_WHERE)
    check.add_argument("--checkpoints", metavar="FOLDER", help="of the study: is the data what they were trained on?")
    clean = commands.add_parser("clean", help="remove checkpoints of a study that nobody needs any more")
    clean.add_argument("root", help="the study's folder or URL")
    clean.add_argument("--study-uid", required=True, help="of the study; the folder's name must end with its start")
    clean.add_argument("--only", help="JSON list of checkpoints below the root (default: all)")
    compare = commands.add_parser("compare", help="peak memory at one z of a document and of its variants")
    compare.add_argument("document", help="JSON as for profile, with variants")
    compare.add_argument("--layers", type=int, required=True, help="z")
    compare.add_argument("--memory", choices=("cuda", "cpu"), default="cuda", help="whose memory (default: cuda)")
    export = commands.add_parser("export", help="write a trained trial as files of the library it comes from")
    export.add_argument("document", help="JSON of a run with one trial, whose parent is the checkpoint to write")
    export.add_argument("--out", required=True, help="folder to write to")
    parsed = parser.parse_args(arguments)
    if parsed.command == "clean":
        from frostline_trainer.checkpoints.clean import main as remove

        return remove(parsed.root, parsed.study_uid, parsed.only)
    if parsed.command == "run":
        from frostline_trainer.run import main as run

        return run()
    if parsed.command == "export":
        from frostline_trainer.export import main as write

        return write(parsed.document, parsed.out)
    if parsed.command == "check":
        from frostline_trainer.profile.preflight import main as preflight

        return preflight(parsed.document, parsed.where, parsed.checkpoints)
    if parsed.command == "compare":
        from frostline_trainer.profile.command import compare as answer

        return answer(parsed.document, parsed.layers, parsed.memory)
    from frostline_trainer.profile.command import main as show

    return show(parsed.document, parsed.format, parsed.memory, parsed.check, parsed.where)


if __name__ == "__main__":
    # Threads of libraries must not keep a finished pod alive, so nothing is left to interpreter shutdown.
    code = main()
    with contextlib.suppress(OSError):  # no space for the last lines: the exit code is what counts
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
