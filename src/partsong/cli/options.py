"""Options that several commands have in common, each with its type and its `--help` text."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.cli import candidates
from partsong.configuration import StoreMode
from partsong.errors import InputError
from partsong.recipe import Recipe

AT_ONCE = 4  # default number of questions or samples that are answered at the same time

Config = Annotated[
    Path | None,
    Parameter(
        metavar="FILE",
        help="Configuration file. Default: partsong.toml in this folder, else the user's.",
    ),
]
RecipeName = Annotated[
    str | None,
    Parameter(
        name=("--recipe", "-r"),
        metavar="NAME|FILE",
        completer=candidates.recipes,
        help="Recipe: its name, or a TOML file. Default: the configured recipe, else local.",
    ),
]
ModelId = Annotated[
    str | None,
    Parameter(
        name=("--model", "-m"),
        metavar="ID",
        completer=candidates.models,
        help="Ask this model alone, without a recipe: openai:gpt-6.1-sol.",
    ),
]
ServedRecipes = Annotated[
    tuple[str, ...],
    Parameter(
        name=("--recipe", "-r"),
        metavar="NAME|FILE",
        consume_multiple=False,
        completer=candidates.recipes,
        help="Recipe to serve; repeat for more. The first is the default one. Without any: all of them.",
    ),
]
RunName = Annotated[
    str,
    Parameter(completer=candidates.runs, help="The run's id, its first letters, or last."),
]
Port = Annotated[int | None, Parameter(metavar="N", help="Port to listen on; 0 for any free port. Default: 8080.")]
Store = Annotated[
    StoreMode | None,
    Parameter(metavar="MODE", help="What is stored of runs. Default: what the configuration says, else full."),
]
TaskName = Annotated[
    str,
    Parameter(metavar="TASK|FILE", help="Task: demo, quiz, the name of a public task, or a .jsonl or .csv file."),
]
Grading = Annotated[
    str | None,
    Parameter(
        metavar="HOW",
        help="How the answers to a file of prompts are graded: exact, choice, pairwise, rubric or module:function.",
    ),
]
Data = Annotated[
    Path | None, Parameter(metavar="FOLDER", help="Folder with the files of a public task (see docs/bench.md).")
]
Limit = Annotated[
    int | None, Parameter(metavar="N", help="Use N samples, drawn at random by --seed. Default: all of them.")
]
Seed = Annotated[int, Parameter(metavar="S", help="Seed for drawing samples and answers. Default: 0.")]
JudgeId = Annotated[
    str | None,
    Parameter(
        metavar="MODEL", completer=candidates.models, help="Model that grades the answers, for tasks that need a judge."
    ),
]
MaxDollarsInAll = Annotated[
    Decimal | None, Parameter(metavar="D", help="Most that all calls together may cost, in dollars.")
]
DryRun = Annotated[
    bool,
    Parameter(
        name="--dry-run",
        negative=(),
        help="Print what would be asked and what it costs, and call no model. Default: no.",
    ),
]
UseCache = Annotated[
    bool,
    Parameter(
        name="--cache",
        negative="--no-cache",
        help="Use answers to equal calls from the store, which cost nothing. Default: yes.",
    ),
]
SamplesAtOnce = Annotated[
    int, Parameter(metavar="N", help=f"Number of samples that are answered at the same time. Default: {AT_ONCE}.")
]


def without_tools(recipe: Recipe) -> Recipe:
    """Return the recipe. Raises `InputError` if its agents use tools, which the command does not offer."""
    if recipe.tools:
        raise InputError(
            f"{recipe.name}: its agents use the tools of {', '.join(recipe.tools)}, which this command does not offer; "
            "ask, chat and serve do"
        )
    return recipe
