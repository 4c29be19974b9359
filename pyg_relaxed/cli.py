"""The command ``pyg-relaxed``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

    from .discovery import Discovery

EXIT_CODES = """\
exit codes:
  0    done
  1    done, but the findings carry a warning (seeds or groups disagree, the fit is poor)
  2    bad input or usage; nothing was written
  130  interrupted; nothing was written
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"pyg-relaxed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="pyg-relaxed", description="Which symmetry is broken, along which axis.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "discover",
        help="which symmetry of a parent crystal its child breaks",
        description="Find out which symmetry of a parent crystal its child breaks, along which axis, by how much.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("parent", metavar="PARENT", help="file of the crystal of high symmetry")
    command.add_argument("child", metavar="CHILD", help="file of the distorted crystal, in any setting and axes")
    command.add_argument("--out", metavar="DIR", type=Path, help="directory of the report (without it: text only)")
    command.add_argument("--seed", type=int, default=0, help="first seed (default: %(default)s)")
    command.add_argument("--num-seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
    command.add_argument(
        "--symprec", type=float, default=0.01, help="what counts as a difference, Å (default: %(default)s)"
    )
    command.add_argument(
        "--theta", default="3", metavar="IRREPS", help="irreps of theta, or the largest degree (default: %(default)s)"
    )
    command.add_argument("--steps", type=int, default=300, help="steps of each training (default: %(default)s)")
    command.add_argument("--penalty", type=float, default=1e-2, help="group lasso on theta (default: %(default)s)")
    command.add_argument("--cutoff", type=float, default=5.0, help="of the neighbours, Å (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="no progress, no sentences")
    command.set_defaults(run=_discover)
    return parser


def _discover(options: argparse.Namespace) -> int:
    from .adapters import read_structure
    from .discovery import discover
    from .report import write

    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file: name a directory")
    with _Progress(sys.stderr, options.quiet) as progress:
        result = discover(
            read_structure(options.parent),
            read_structure(options.child),
            seed=options.seed,
            num_seeds=options.num_seeds,
            symprec=options.symprec,
            irreps_theta=int(options.theta) if options.theta.isdigit() else options.theta,
            steps=options.steps,
            penalty=options.penalty,
            cutoff=options.cutoff,
            progress=progress,
        )
    _say(result, options)
    if options.out is not None:
        page = write(result, options.out)
        if not (options.quiet or options.json):
            print(f"\nReport: {page}")
    return 0 if result.agrees and not result.warnings() else 1


def _say(result: Discovery, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(result.to_dict(), ensure_ascii=False, indent=1))
    elif not options.quiet:
        print(result.headline(), "", *result.sentences(), sep="\n")


class _Progress:
    """A bar for each stage in a terminal, a line for each stage elsewhere."""

    def __init__(self, stream: TextIO, quiet: bool) -> None:
        self.stream, self.quiet = stream, quiet
        self.stage, self.begin = "", 0.0
        self.bar: tqdm | None = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.quiet:
            return
        if stage != self.stage:
            self.stage, self.begin = stage, time.monotonic()
            if self.stream.isatty():
                self._new_bar(total)
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
        elif done == total:
            print(f"{stage}: {total} steps, {time.monotonic() - self.begin:.1f} s", file=self.stream)

    def _new_bar(self, total: int) -> None:
        from tqdm import tqdm

        if self.bar is not None:
            self.bar.close()
        self.bar = tqdm(total=total, desc=self.stage, file=self.stream, unit="step")


if __name__ == "__main__":
    sys.exit(main())
