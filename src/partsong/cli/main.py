"""The command line as a whole: what commands there are, and what every one of them does when something goes wrong.

Each command is imported when it is called, so that `partsong --help` knows no provider. What a command raises on
purpose becomes one line on standard error and an exit code: 1 where a run failed, 2 where what was asked for cannot be
done. This is the last line of defence, so it is the only place that decides how the process ends.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Parameter

if TYPE_CHECKING:
    from partsong.errors import PartsongError

FAILED, WRONG_USE, INTERRUPTED, READER_LEFT = 1, 2, 130, 141


def main() -> None:
    """Run the command that the process was called with, and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Run a command; return its exit code. What standard output and error cannot encode is replaced, never fatal."""
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
    """All commands, none of them imported yet."""
    app = App(
        name="partsong",
        help="Ask several language models, and let another make one answer of theirs (Mixture-of-Agents).",
        usage="Usage: partsong COMMAND [OPTIONS]",
        help_epilogue=_examples(
            'partsong ask "Why is the sky blue?"', "partsong ask --help", "partsong doctor", commands=False
        ),
        version=_version,
        help_format="plaintext",
        help_on_error=False,
        error_formatter=_usage_error,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=(), show_default=False),
        group_parameters="Options",
    )
    app.command(
        "partsong.cli.ask:ask",
        name="ask",
        help="Ask a mixture of models, or one model, a question.",
        usage="Usage: partsong ask [OPTIONS] QUESTION",
        help_epilogue=_examples(
            'ask "Why is the sky blue?"',
            'ask --recipe moa-lite --proposals "Is 2027 a prime number?"',
            'ask --model openai:gpt-6.1-sol "Write a haiku about rain"',
            'ask "Summarise this for a child:" - < report.txt',
            'ask --image receipt.jpg "What did I pay?"',
            'ask --json "Name three rivers" | jq -r "select(.event == \\"run_finished\\").answer.text"',
        ),
    )
    app.command(
        "partsong.cli.batch:batch",
        name="batch",
        help="Answer a file of questions, several at a time; started again, it goes on where it was stopped.",
        usage="Usage: partsong batch QUESTIONS.jsonl --out ANSWERS.jsonl [OPTIONS]",
        help_epilogue=_examples(
            "batch questions.jsonl --out answers.jsonl",
            "batch questions.jsonl --out answers.jsonl --recipe moa-lite --at-once 16 --max-dollars 5",
        ),
    )
    app.command(
        "partsong.cli.history:history",
        name="history",
        help="List the runs that are stored, or remove old ones.",
        usage="Usage: partsong history [OPTIONS]\n       partsong history prune --older-than AGE",
        help_epilogue=_examples("history", "history --limit 100 --json", "history prune --older-than 30d"),
    )
    app.command(
        "partsong.cli.show:show",
        name="show",
        help="Show a stored run: its seats, its timeline, the proposals, the answer and what they cost.",
        usage="Usage: partsong show RUN [OPTIONS]",
        help_epilogue=_examples("show last", "show 4f1c --brief", 'show last --json | jq ".layers[0].seats[].text"'),
    )
    app.command(
        "partsong.cli.replay:replay",
        name="replay",
        help="Let a stored run happen again before your eyes; no model is asked.",
        usage="Usage: partsong replay RUN [OPTIONS]",
        help_epilogue=_examples("replay last", "replay 4f1c --speed 4", "replay last --at-once --json"),
    )
    app.command(
        "partsong.cli.cost:cost",
        name="cost",
        help="Say what a question would cost, typically and at most; nobody is asked, and no key is needed.",
        usage="Usage: partsong cost RECIPE --prompt-tokens N [OPTIONS]",
        help_epilogue=_examples("cost moa-lite --prompt-tokens 500", "cost mine.toml --prompt-tokens 20000 --json"),
    )
    app.command(
        "partsong.cli.recipes:recipes",
        name="recipes",
        help="List the shipped recipes, or print one to copy and edit.",
        usage="Usage: partsong recipes [NAME]",
        help_epilogue=_examples("recipes", "recipes moa-lite > mine.toml", "ask --recipe mine.toml …"),
    )
    app.command(
        "partsong.cli.models:models",
        name="models",
        help="List the providers with their keys, and the local models.",
        usage="Usage: partsong models [OPTIONS]",
        help_epilogue=_examples("models"),
    )
    app.command(
        "partsong.cli.pull:pull",
        name="pull",
        help="Fetch the weights of local models ahead of their first use; without a name, those of the default recipe.",
        usage="Usage: partsong pull [NAME]…",
        help_epilogue=_examples("pull", "pull smollm2-135m qwen2.5-coder-1.5b", "pull owner/repository/model.gguf"),
    )
    app.command(
        "partsong.cli.serve:serve",
        name="serve",
        help="Serve recipes and models behind the APIs of OpenAI and Anthropic, until it is stopped.",
        usage="Usage: partsong serve [OPTIONS]",
        help_epilogue=_examples("serve", "serve --recipe frontier --recipe mine.toml --port 9000 --workers 2"),
    )
    app.command(
        "partsong.cli.ui:ui",
        name="ui",
        help="Serve the web page on this machine, and open it in the browser.",
        usage="Usage: partsong ui [OPTIONS]",
        help_epilogue=_examples("ui", "ui --recipe frontier --recipe mine.toml --port 0"),
    )
    app.command(
        "partsong.cli.mcp:mcp",
        name="mcp",
        help="Serve recipes as tools of the Model Context Protocol, over standard input and output.",
        usage="Usage: partsong mcp [OPTIONS]",
        help_epilogue=_examples("mcp", "mcp --recipe frontier --recipe mine.toml"),
    )
    app.command(
        "partsong.cli.keys:keys",
        name="keys",
        help="Make, list or remove the keys that callers of the server show.",
        usage="Usage: partsong keys add NAME [OPTIONS]\n       partsong keys list\n       partsong keys remove NAME",
        help_epilogue=_examples("keys add alice --max-dollars-per-day 5", "keys list", "keys remove alice"),
    )
    bench = App(name="bench", help="Measure whether a mixture helps.", usage="Usage: partsong bench COMMAND …")
    bench.command(
        "partsong.cli.bench_run:bench_run",
        name="run",
        help="Let recipes answer a task and grade them; started again, it goes on where it was stopped.",
        usage="Usage: partsong bench run TASK --recipe NAME|FILE… [OPTIONS]",
        help_epilogue=_examples("bench run demo --recipe local", "bench run demo --recipe a.toml --recipe b.toml"),
    )
    bench.command(
        "partsong.cli.bench_score:score",
        name="score",
        help="Score stored judgments of AlpacaEval 2.0 or MT-Bench again; nobody is asked.",
        usage="Usage: partsong bench score alpaca_eval FOLDER [OPTIONS]\n"
        "       partsong bench score mt_bench FILE.jsonl [OPTIONS]",
        help_epilogue=_examples("bench score alpaca_eval results/ --json", "bench score mt_bench judgments.jsonl"),
    )
    bench.command(
        "partsong.cli.bench_similar:similar",
        name="similar",
        help="Correlate how similar stored outputs are to aggregated ones with how a judge liked them.",
        usage="Usage: partsong bench similar FOLDER --aggregate MODEL [OPTIONS]",
        help_epilogue=_examples("bench similar results/ --aggregate Together-MoA"),
    )
    app.command(bench)
    app.command(
        "partsong.cli.compare:compare",
        name="compare",
        help="Say which recipe is better on your prompts, if that is sure, and what one model does for the same money.",
        usage="Usage: partsong compare TASK|FILE --recipe NAME|FILE… [OPTIONS]",
        help_epilogue=_examples(
            "compare demo --recipe local",
            "compare prompts.jsonl --recipe a.toml --recipe b.toml --judge openai:gpt-6.1-sol --max-dollars 5",
        ),
    )
    app.command(
        "partsong.cli.paper:paper",
        name="paper",
        help="Run the paper's tables and figures on any models, beside the paper's numbers.",
        usage="Usage: partsong paper [TABLE|FIGURE] [OPTIONS]",
        help_epilogue=_examples("paper", "paper table-3 --models openai:a,anthropic:b --task prompts.jsonl"),
    )
    app.command(
        "partsong.cli.doctor:doctor",
        name="doctor",
        help="Say what is configured, which keys are there, and which endpoints answer.",
        usage="Usage: partsong doctor [OPTIONS]",
        help_epilogue=_examples("doctor", "doctor --config elsewhere.toml"),
    )
    return app


def _examples(*lines: str, commands: bool = True) -> str:
    return "Examples:\n" + "\n".join(f"  {'partsong ' if commands else ''}{line}" for line in lines)


def as_words(tokens: Sequence[str]) -> list[str]:
    """The tokens, with `-`, `-5 °C?` and `- a list` made words of a question instead of options that nobody knows.

    A space in front does that; it is taken off when the question is read.
    """
    return [f" {token}" if re.match(r"-($|[^-A-Za-z])", token) else token for token in tokens]


def _version() -> str:
    from importlib.metadata import version

    return f"partsong {version('partsong')}"


def _usage_error(problem: CycloptsError) -> str:
    command = " ".join(("partsong", *(problem.command_chain or ())))
    return f"partsong: {problem}\nTry: {command} --help"


def _expected() -> "type[PartsongError]":
    """Looked up only once something was raised: until then, no command has paid for the import."""
    from partsong.errors import PartsongError

    return PartsongError


def _reader_left() -> type[Exception]:
    from partsong.cli.output import ReaderLeft

    return ReaderLeft


def _say(problem: BaseException) -> None:
    from partsong.cli.printable import printable

    with suppress(OSError):
        print(f"partsong: {printable(str(problem), sys.stderr.encoding)}", file=sys.stderr)
