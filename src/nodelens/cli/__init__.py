"""The command line: parses, calls, prints; no logic of its own."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from nodelens import __version__
from nodelens.cli.heads import heads
from nodelens.cli.measuring import measure, sites
from nodelens.cli.pruning import export, gain, prune
from nodelens.cli.report import report
from nodelens.cli.studies import quickstart, reproduce
from nodelens.cli.training import train
from nodelens.errors import InputError, ProcessLostError
from nodelens.interruption import Interrupted, heeding_signals
from nodelens.memory import keep_freed_memory

# In the order in which a user meets them.
COMMANDS = (quickstart, train, sites, measure, heads, prune, gain, export, report, reproduce)

app = typer.Typer(
    help="See what every node of a trained network has learned to recognise.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)


def _print_version(asked: bool) -> bool:
    if asked:
        print(__version__)
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """See what every node of a trained network has learned to recognise."""


def main() -> None:
    """Entry point: bad input is one sentence and exit code 2, a traceback only with --debug.

    Of several processes one says it; where another one ended, the exit code is 1. Ctrl-C and SIGTERM are one sentence
    too, and exit codes 130 and 143.
    """
    keep_freed_memory()
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    with heeding_signals():
        try:
            with _together():
                app(args=arguments, prog_name="nodelens")
        except (InputError, ProcessLostError) as error:
            if debug:
                raise
            _end(error, 2 if isinstance(error, InputError) else 1)
        except Interrupted as error:
            _end(error, error.exit_code)


def _together() -> AbstractContextManager[None]:
    """Work with the processes that a launcher started; without one, torch is not loaded before it is needed."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return nullcontext()
    from nodelens.processes import joined

    return joined()


def _end(reason: BaseException, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(f"nodelens: {reason}", style="red", highlight=False, markup=False)
    sys.exit(code)
