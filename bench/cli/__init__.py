"""The command line: one file per command, imported when it is called; errors end here, once."""

import importlib
import keyword
import os
import sys
from typing import Any, Final

import click

from bench import __version__
from bench.errors import BenchError
from bench.names import choose

COMMANDS: Final = {
    "list": "What can be measured here: suites, workloads, backends.",
    "doctor": "Is this machine fit to measure?",
    "run": "Measure a suite.",
    "report": "Show one run or several.",
    "duet": "Did it get slower? Two environments against each other.",
    "compare": "Machines side by side: speed, cost, energy.",
    "check": "Did it get slower? A gate against stored runs.",
    "history": "A folder of runs: trends, and slow creep against a release.",
    "import": "Turn another tool's results into a run file.",
    "share": "Copy a run file without what identifies people, places and paths.",
}
SUGGESTIONS: Final = {
    "--device": "--backend or --gpu",
    "--suites": "--suite",
    "--iterations": "--blocks or --max-seconds",
    "--json": "--as json",
}
ANSWER_IS_NO: Final = 1
BAD_REQUEST: Final = 2
NOTHING_COMPARABLE: Final = 4
INTERRUPTED: Final = 130


class Commands(click.Group):
    """Knows the commands' names and one line each; imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file; a mistyped name gets the one that was probably meant."""
        choose("command", [cmd_name], COMMANDS)
        file = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        module = importlib.import_module(f"bench.cli.{file}")
        command: click.Command = module.command
        for own in (command, *getattr(command, "commands", {}).values()):
            own.help = _unwrapped(own.help)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _unwrapped(text: str | None) -> str | None:
    r"""Turn the `\b` that a raw docstring spells out into the mark that keeps lines apart."""
    return text.replace("\\b\n", "\b\n") if text else text


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bench")
def bench() -> None:
    r"""Compare CPU and GPU on neural-net workloads, with numbers that can be trusted.

    \b
    Example:
      bench run --suite matmul --preset quick
      bench report results/*.jsonl --as plots
    """


bench.help = _unwrapped(bench.help)


def main() -> None:
    """Run the command line and exit with its code: the only place that prints an error."""
    try:
        code = bench.main(prog_name="bench", standalone_mode=False)
    except BenchError as error:
        sys.exit(_complain(str(error)))
    except click.UsageError as error:
        sys.exit(_complain(_usage(error)))
    except click.ClickException as error:
        sys.exit(_complain(error.format_message()))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> int:
    from bench.text import plain

    print(f"bench: error: {plain(message)}", file=sys.stderr)
    return BAD_REQUEST


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.option_name in SUGGESTIONS:
        message = f"No such option {error.option_name!r}; did you mean"
        message += f" {SUGGESTIONS[error.option_name]}?"
    path = error.ctx.command_path if error.ctx else "bench"
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"


def color_of(choice: str, stream: Any) -> bool:
    """Decide once whether to colour: the option, NO_COLOR, FORCE_COLOR, then the terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def width_of(stream: Any) -> int | None:
    """Return the columns of a terminal; None where nothing may be cut or wrapped."""
    if not stream.isatty():
        return None
    return os.get_terminal_size(stream.fileno()).columns or None


def with_output_options(function: Any) -> Any:
    """Add the options that every command has."""
    function = click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        help="Colour the output; NO_COLOR and FORCE_COLOR are honoured.",
    )(function)
    function = click.option("-q", "--quiet", is_flag=True, help="Print results only.")(function)
    return click.option("-v", "--verbose", is_flag=True, help="Print more of what happens.")(
        function
    )
