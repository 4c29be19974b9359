"""The command ``pyg-relaxed``."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
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
EVAL_EXIT_CODES = """\
exit codes:
  0    done
  2    bad input or usage
  3    done, but structures were left out (--skip)
"""
PREDICT_EXIT_CODES = """\
exit codes:
  0    done
  2    bad input or usage; nothing was computed
  3    done, but some structures failed: DIR/part-*.failed.txt names them and says why
  130  interrupted, 143 terminated; the same command goes on
"""
RELAX_EXIT_CODES = """\
exit codes:
  0    done, all have converged
  1    done, but some have not converged in so many steps
  2    bad input or usage; nothing was computed
  3    done, but some structures failed, named on standard error
  130  interrupted; FILE holds what was done
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parsed = _parser().parse_args(arguments)
    in_full, warnings.formatwarning = warnings.formatwarning, _in_one_line
    try:
        return parsed.run(parsed)
    except (ValueError, OSError) as error:
        print(f"pyg-relaxed: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        warnings.formatwarning = in_full


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"pyg-relaxed: warning: {message}\n"


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="pyg-relaxed", description="Which symmetry is broken, and along which axis.")
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
    _add_training(commands)
    return parser


def _add_training(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("new-config", help="write a config with every important key and its meaning")
    command.add_argument("config", metavar="CONFIG", type=Path, help="file to write")
    command.add_argument("--tensor", action="store_true", help="of a tensor model (default: a potential)")
    command.set_defaults(run=_new_config)

    command = commands.add_parser("train", help="train a model, or go on with an interrupted training")
    command.add_argument("config", metavar="CONFIG", type=Path, help="YAML file, see `pyg-relaxed new-config`")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the run")
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="such as trainer.epochs=5")
    command.add_argument("--devices", type=int, help="processes, one a device: trainer.devices of the config")
    command.add_argument("--dry-run", action="store_true", help="print the config with its defaults, train nothing")
    command.set_defaults(run=_train)

    command = commands.add_parser(
        "eval",
        help="errors of a model on structures with labels",
        epilog=EVAL_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", type=Path, help="file of the model")
    command.add_argument("source", metavar="STRUCTURES", help="file or folder of structures")
    command.add_argument("--batch-size", type=int, default=16, help="structures at a time (default: %(default)s)")
    command.add_argument(
        "--label",
        metavar="LABEL=NAME",
        action="append",
        default=[],
        help="where a label stands, such as energy=dft_energy (default: where it stood in the training)",
    )
    command.add_argument(
        "--skip", action="store_true", help="leave out structures that cannot be read or that the model is not for"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_eval)

    command = commands.add_parser(
        "predict",
        help="what a model predicts, for any number of structures; goes on",
        epilog=PREDICT_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", type=Path, help="file of the model")
    command.add_argument("source", metavar="STRUCTURES", help="file or folder of structures")
    command.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of extxyz files")
    command.add_argument("--batch-size", type=int, default=16, help="structures at a time (default: %(default)s)")
    command.add_argument("--part-size", type=int, default=1000, help="structures in a file (default: %(default)s)")
    command.add_argument("--device", help="such as cuda:0 (default: the CPU)")
    command.add_argument("--rank", type=int, default=0, help="of this process, from 0 (default: %(default)s)")
    command.add_argument("--processes", type=int, default=1, help="how many share the work (default: %(default)s)")
    command.set_defaults(run=_predict)

    command = commands.add_parser(
        "relax",
        help="any number of structures to where a potential has no forces left",
        epilog=RELAX_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL", type=Path, help="file of the potential")
    command.add_argument("source", metavar="STRUCTURES", help="file or folder of structures")
    command.add_argument("--out", metavar="FILE", type=Path, required=True, help="extxyz file to write")
    command.add_argument("--cell", action="store_true", help="relax the cell too")
    command.add_argument("--pressure", type=float, default=0.0, help="on the cell, GPa (default: %(default)s)")
    command.add_argument("--fmax", type=float, default=0.05, help="largest force, eV/Å (default: %(default)s)")
    command.add_argument("--steps", type=int, default=500, help="at most so many (default: %(default)s)")
    command.add_argument("--device", help="such as cuda:0 (default: the CPU)")
    command.set_defaults(run=_relax)

    command = commands.add_parser("info", help="what is in a model file")
    command.add_argument("model", metavar="MODEL", type=Path, help="file of the model")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_info)

    command = commands.add_parser("export", help="a potential as a file that other programs run")
    command.add_argument("model", metavar="MODEL", type=Path, help="file of the model")
    command.add_argument("--to", choices=["aoti", "metatomic"], required=True, help="a .pt2 package, or a .pt file")
    command.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="file to write, replaced if it is there"
    )
    command.add_argument("--dtype", choices=["float32", "float64"], help="of the file (default: the model's)")
    command.add_argument(
        "--field", metavar="NAME=X,Y,Z", action="append", default=[], help="a field of the model, kept"
    )
    command.add_argument(
        "--kernels", choices=["torch", "compiled"], help="aoti: compiled ones are for processes that import pyg_relaxed"
    )
    command.set_defaults(run=_export)


def _new_config(options: argparse.Namespace) -> int:
    from importlib.resources import files

    if options.config.exists():
        raise ValueError(f"{options.config} is there already: choose another name")
    template = files("pyg_relaxed") / "train" / ("tensor.yaml" if options.tensor else "potential.yaml")
    options.config.write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    print(f"{options.config}: set 'data.train', then `pyg-relaxed train {options.config} --out DIR`")
    return 0


def _train(options: argparse.Namespace) -> int:
    from .train import read_config, train

    overrides = [*options.set, *([] if options.devices is None else [f"trainer.devices={options.devices}"])]
    config = read_config(options.config, overrides)
    if options.dry_run:
        print(config.to_yaml(), end="")
        return 0
    print(f"Model: {train(config, options.out)}")
    return 0


def _eval(options: argparse.Namespace) -> int:
    from .train import evaluate, load_trained, read_labelled
    from .train.evaluation import read_from
    from .train.losses import unit

    label_names = _pairs("--label", options.label, "energy=dft_energy")
    dataset = read_labelled(options.model, options.source, label_names, "skip" if options.skip else "raise")
    found = evaluate(load_trained(options.model), dataset, batch_size=options.batch_size)
    keys = read_from(dataset, list(found))
    code = 3 if dataset.failures else 0
    if options.json:
        table = {
            name: mean | {"count": int(mean["count"]), "unit": unit(name)[0], "read_from": keys[name]}
            for name, mean in found.items()
        }
        print(json.dumps(table, ensure_ascii=False))
        return code
    print(f"{'label':<24}{'values':>10}{'mae':>12}{'rmse':>12}  {'unit':<10}  read from (structures)")
    for name, mean in found.items():
        read = ", ".join(f"{key} ({count})" for key, count in keys[name].items())
        numbers = f"{int(mean['count']):>10}{mean['mae']:>12.4g}{mean['rmse']:>12.4g}"
        print(f"{name:<24}{numbers}  {unit(name)[0] or '1':<10}  {read}")
    for name, key in dataset.label_names.items():
        if name not in keys:
            print(f"pyg-relaxed: no structure has '{key}', the training's '{name}': not compared", file=sys.stderr)
    return code


def _predict(options: argparse.Namespace) -> int:
    from .train import predict

    counts = predict(
        options.model,
        options.source,
        options.out,
        batch_size=options.batch_size,
        part_size=options.part_size,
        device=options.device,
        rank=options.rank,
        num_processes=options.processes,
    )
    kept = f", {counts.kept} were there already" if counts.kept else ""
    failed = f", {counts.failed} failed: see {options.out}/part-*.failed.txt" if counts.failed else ""
    print(f"{counts.written} structures written to {options.out}{kept}{failed}")
    return 3 if counts.failed else 0


def _relax(options: argparse.Namespace) -> int:
    import ase.units

    from .adapters import open_source
    from .adapters.extxyz import to_extxyz
    from .adapters.labels import results_as_predicted
    from .calculators import relax
    from .files import check_directory
    from .io import fingerprint, load, read_header, trained_label_names

    header = read_header(options.model)
    if header["class"] != "RelaxedPotential":
        raise ValueError(f"{options.model} holds a {header['class']}: only a RelaxedPotential has forces")
    source, model = open_source(options.source), load(options.model)
    check_directory(options.out)
    if options.out.exists():
        raise ValueError(f"{options.out} is there already: choose another name")
    if options.out.suffix not in (".extxyz", ".xyz"):
        raise ValueError(f"{options.out.name}: extxyz is written, give a name that ends in .extxyz")
    if options.pressure and not options.cell:
        raise ValueError("--pressure is a pressure on the cell: give --cell too")
    settings = {name: getattr(options, name) for name in ("cell", "fmax", "steps", "device")}
    settings["pressure"] = options.pressure * ase.units.GPa
    counts = {"converged": 0, "not converged": 0, "failed": 0}
    for found in relax(model, source, on_error="report", **settings):  # type: ignore[arg-type]
        relaxed, place = found.atoms, source.place(found.index)
        try:
            if found.error:
                raise ValueError(found.error)
            for key in trained_label_names(header).values():  # of another geometry
                relaxed.info.pop(key, None)
                relaxed.arrays.pop(key, None)
            results_as_predicted(relaxed, fingerprint(header))
            relaxed.info |= {"converged": found.converged, "steps": found.steps, "place": place}
            text = to_extxyz(relaxed)
        except ValueError as error:
            counts["failed"] += 1
            print(f"{place}: {error}", file=sys.stderr)
            continue
        counts["converged" if found.converged else "not converged"] += 1
        with options.out.open("a", encoding="utf-8") as file:
            file.write(text)
    written = options.out if options.out.exists() else "nothing is written"
    print(f"{', '.join(f'{count} {name}' for name, count in counts.items())}: {written}")
    return 3 if counts["failed"] else int(counts["not converged"] > 0)


def _info(options: argparse.Namespace) -> int:
    from .breaking import theta_group
    from .io import load, read_header
    from .surgery import thetas

    header = read_header(options.model)
    model = load(options.model)
    header["theta"] = {name: theta.norms() for name, theta in thetas(model).items()}
    header["group"] = theta_group(model)
    header["weights"] = sum(p.numel() for p in model.parameters())
    if options.json:
        print(json.dumps(header, ensure_ascii=False, indent=1))
        return 0
    print(f"{header['class']}, {header['weights']:,} weights, {header['dtype']}, axes {header['frame']}")
    print(f"theta leaves {header['group']}" if header["group"] != "∞∞m" else "strict: theta breaks no symmetry")
    symmetry = header["provenance"].get("symmetry")
    if isinstance(symmetry, dict) and "verdict" in symmetry:
        print(symmetry["verdict"])
    for section in ("config", "theta", "provenance", "versions", "units"):
        print(f"\n{section}")
        for name, value in header[section].items():
            print(f"  {name}: {json.dumps(value, ensure_ascii=False)}")
    return 0


def _export(options: argparse.Namespace) -> int:
    import torch

    from . import deploy
    from .io import load

    model = load(options.model)
    if options.dtype is not None:
        model = model.to(getattr(torch, options.dtype))
    pairs = _pairs("--field", options.field, "electric_field=0,0,0.1")
    fields = {name: _numbers(name, values) for name, values in pairs.items()}
    if options.to == "metatomic" and options.kernels is not None:
        raise ValueError("--kernels is for --to aoti: a file of metatomic holds operations of torch alone")
    try:
        if options.to == "metatomic":
            written = deploy.export_metatomic(model, options.out, fields=fields)  # type: ignore[arg-type]
        else:
            kernels = options.kernels or "torch"
            written = deploy.export_aoti(model, options.out, fields=fields or None, kernels=kernels)  # type: ignore[arg-type]
    except (ImportError, TypeError, deploy.CompilerError) as error:  # no metatomic, no potential, no compiler
        raise ValueError(str(error)) from None
    print(f"{written} written")
    return 0


def _pairs(option: str, texts: Sequence[str], example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if not (name and value) or name in found:
            raise ValueError(f"{option} {text}: give each name once, and what it is, such as {example}")
        found[name] = value
    return found


def _numbers(name: str, values: str) -> list[float]:
    try:
        return [float(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(f"--field {name}={values}: give numbers, such as {name}=0,0,0.1") from None


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
