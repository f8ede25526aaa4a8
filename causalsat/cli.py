"""The command line. Results go to stdout, the log to stderr; exit codes 0, 2 usage, 3 data, 4 numerical."""

import argparse
import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from causalsat.errors import CausalsatError, DataError, NumericalError, OptionError

EXIT_CODES = ((OptionError, 2), (DataError, 3), (NumericalError, 4))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    with _log_to_stderr(options.quiet):
        try:
            answer = options.command(options)
        except CausalsatError as error:
            return _failed(error, options.json)
    if options.json:
        print(json.dumps({"ok": True, **answer}, indent=2, default=str))
    elif answer.get("text"):
        print(answer["text"])
    return 0


def _failed(error: CausalsatError, as_json: bool) -> int:
    code = next((code for cls, code in EXIT_CODES if isinstance(error, cls)), 4)
    if as_json:
        print(json.dumps({"ok": False, "error": type(error).__name__, "message": str(error), "exit_code": code}))
    print(f"causalsat: {type(error).__name__}: {error}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _log_to_stderr(quiet: bool) -> Iterator[None]:
    """Log and warnings as lines on stderr while a command runs; afterwards all is as it was."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("causalsat: %(message)s"))
    logger = logging.getLogger("causalsat")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)

    def show(message: Any, category: type, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
        print(f"causalsat: {category.__name__}: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="causalsat", description="Causal inference with satellite images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(command=run)
        sub.add_argument("--json", action="store_true", help="print the answer as JSON")
        sub.add_argument("--quiet", action="store_true", help="no log, only warnings")
        return sub

    study: dict[str, Any] = {"help": "study file (TOML)", "type": Path}
    setting: dict[str, Any] = {
        "action": "append",
        "default": [],
        "metavar": "section.key=value",
        "help": "override the study file",
    }
    run = command("run", _run, "Run a study: embed, fit, write effects and a report into a fresh folder.")
    run.add_argument("study", **study)
    run.add_argument("--set", **setting)
    run.add_argument("--out", type=Path, help="folder to create (default: results-001, or the next free number)")
    embed = command("embed", _embed, "Make the embeddings of a study's [embed] block; resumes an interrupted job.")
    embed.add_argument("study", **study)
    embed.add_argument("--set", **setting)
    validate = command("validate", _validate, "Check a study file, its table and its rasters; no heavy work.")
    validate.add_argument("study", **study)
    validate.add_argument("--set", **setting)
    demo = command("demo", _demo, "Write a small study with real files and a known effect, and run it.")
    demo.add_argument("--out", type=Path, default=Path("demo-study"), help="folder of the study (default: demo-study)")
    demo.add_argument("--force", action="store_true", help="replace the demo folder if it exists")
    report = command("report", _report, "Write report.html of a results folder again.")
    report.add_argument("folder", type=Path, help="results folder of `causalsat run`")
    describe = command("describe", _describe, "What a method estimates, under which assumption, with which options.")
    describe.add_argument("method", nargs="?", help="method; without it, the list of methods")
    return parser


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from causalsat.run import run_study

    done = run_study(options.study, overrides=options.set, out=options.out)
    return _answer(done)


def _answer(done: Any) -> dict[str, Any]:
    tables = {name: result.table for name, result in done.results.items()}
    failed = [check for result in done.results.values() for check in result.checks if check.passed is False]
    lines = [f"{name}\n{table}" for name, table in tables.items()]
    lines += [f"check failed: {check.name}: {check.text}" for check in failed]
    lines.append(f"written to {done.out}: effects (.parquet, .csv, .md, .tex), report.html, meta.json, config.toml")
    return {
        "text": "\n\n".join(lines),
        "out": str(done.out),
        "effects": {name: table.to_dict() for name, table in tables.items()},
        "failed_checks": [{"name": check.name, "text": check.text} for check in failed],
    }


def _embed(options: argparse.Namespace) -> dict[str, Any]:
    from causalsat.config import load_config
    from causalsat.run import study_embeddings

    config = load_config(options.study, options.set)
    if config.embed is None:
        raise OptionError(f"{options.study} has no [embed] section, so there is nothing to embed.")
    embeddings = study_embeddings(config, None)
    counts = {str(s): int((embeddings.status == s).sum()) for s in sorted(set(embeddings.status.tolist()))}
    text = f"{len(embeddings)} places, {embeddings.d} features, in {config.folder / config.embed['out']}: " + ", ".join(
        f"{n} {status}" for status, n in counts.items()
    )
    return {"text": text, "places": len(embeddings), "features": embeddings.d, "status": counts}


def _validate(options: argparse.Namespace) -> dict[str, Any]:
    from causalsat.config import load_config
    from causalsat.run import validate_study

    found = validate_study(load_config(options.study, options.set))
    lines = [
        f"{options.study}: fine",
        f"table: {found['table']['rows']} rows, {len(found['table']['columns'])} columns",
    ]
    lines += [f"embed: {key} = {value}" for key, value in found.get("embed", {}).items()]
    return {"text": "\n".join(lines), **found}


def _demo(options: argparse.Namespace) -> dict[str, Any]:
    import shutil

    from causalsat.run import run_study
    from causalsat.simulate.demo_study import write_demo_study

    if options.force and (options.out / ".causalsat-demo").is_file():
        shutil.rmtree(options.out)
    demo = write_demo_study(options.out)
    done = run_study(demo.study_file, out=options.out / "results")
    answer = _answer(done)
    files = "\n".join(f"  {name}: {what}" for name, what in demo.files.items())
    answer["text"] = f"study files in {options.out}:\n{files}\n\n{answer['text']}\n\ntrue effect: {demo.effect:g}"
    return answer


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from causalsat.run import rebuild_report

    path = rebuild_report(options.folder)
    return {"text": f"written: {path}", "report": str(path)}


def _describe(options: argparse.Namespace) -> dict[str, Any]:
    from causalsat.run import method_card, method_names

    if options.method is None:
        return {"text": "\n".join(method_names()), "methods": method_names()}
    card = method_card(options.method)
    return {"text": card, "method": options.method, "card": card}


if __name__ == "__main__":
    sys.exit(main())
