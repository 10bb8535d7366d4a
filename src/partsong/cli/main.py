"""The `partsong` process: finds the command that was typed, runs it, and turns exceptions into an exit code.

A command's module is imported only when the command runs, so that `partsong --help` is quick. A `PartsongError` becomes
one line on standard error. The exit code is then 2 for an `InputError` (wrong input of the user), and else 1. No other
module decides how the process ends.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cyclopts import App, CycloptsError, Group, Parameter

from partsong.cli.commands import GROUPS, Command

if TYPE_CHECKING:
    from partsong.errors import PartsongError

FAILED, WRONG_USE, INTERRUPTED, READER_LEFT = 1, 2, 130, 141


def main() -> None:
    """Run the command of this process, and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Run the command that the arguments name, and return its exit code.

    tokens: arguments of the process, without its name

    Output characters that the terminal's encoding lacks are replaced.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = command_line()(as_words(tokens))
        sys.stdout.flush()
    except _expected() as problem:
        from partsong.errors import InputError

        _say(problem)
        return WRONG_USE if isinstance(problem, InputError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, _reader_left()) as problem:
        # The interpreter flushes standard output once more when it leaves, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        fault = problem.__cause__ or problem
        if isinstance(fault, BrokenPipeError):
            return READER_LEFT
        _say(fault)
        return FAILED
    return code if isinstance(code, int) else 0


def command_line() -> App:
    """Return the application with all its commands. The modules of the commands are not imported yet."""
    app = App(
        name="partsong",
        help="Ask several language models, and combine their answers into one (Mixture-of-Agents).",
        usage="Usage: partsong COMMAND [OPTIONS]",
        help_epilogue=_examples('ask "Why is the sky blue?"', "ask --help", "doctor"),
        version=_version,
        help_format="plaintext",
        help_on_error=False,
        error_formatter=_usage_error,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=(), show_default=False),
        group_parameters="Options",
        group_commands=Group("Options", sort_key=len(GROUPS)),  # cyclopts counts --help and --version as commands
    )
    for rank, (title, commands) in enumerate(GROUPS.items()):
        _add(app, commands, Group(title, sort_key=rank))
    return app


def _add(app: App, commands: Sequence[Command], group: Group | None = None) -> None:
    """Register the commands with the application, in their order."""
    for rank, command in enumerate(commands):
        about: dict[str, Any] = {
            "help": command.help,
            "usage": command.usage,
            "help_epilogue": _examples(*command.examples),
            "group": group,
            "sort_key": rank,
        }
        if command.commands:
            below = App(name=command.name, group_commands="Commands", **about)
            _add(below, command.commands)
            app.command(below)
        else:
            app.command(command.function, name=command.name, **about)


def _examples(*lines: str) -> str:
    return "Examples:\n" + "\n".join(f"  partsong {line}" for line in lines)


def as_words(tokens: Sequence[str]) -> list[str]:
    """Return the arguments with a space before each argument that begins with a hyphen but is no option.

    Such arguments are `-`, `-5 °C?` and `- a list`, which are words of a question. The space keeps the parser from
    reading them as options. It is removed when the question is read.
    """
    return [f" {token}" if re.match(r"-($|[^-A-Za-z])", token) else token for token in tokens]


def _version() -> str:
    from importlib.metadata import version

    return f"partsong {version('partsong')}"


def _usage_error(problem: CycloptsError) -> str:
    command = " ".join(("partsong", *(problem.command_chain or ())))
    return f"partsong: {problem}\nTry: {command} --help"


def _expected() -> "type[PartsongError]":
    """Return the class of expected errors. The class is imported only after an exception, to save time in commands."""
    from partsong.errors import PartsongError

    return PartsongError


def _reader_left() -> type[Exception]:
    """Return the class of the error for output that cannot be written, which is imported only after an exception."""
    from partsong.cli.output import ReaderLeft

    return ReaderLeft


def _say(problem: BaseException) -> None:
    from partsong.cli.printable import printable

    told = str(problem)
    if isinstance(problem, OSError) and problem.filename is not None and problem.strerror is not None:
        told = f"{problem.filename}: {problem.strerror}"
    with suppress(OSError):
        print(f"partsong: {printable(told, sys.stderr.encoding)}", file=sys.stderr)
