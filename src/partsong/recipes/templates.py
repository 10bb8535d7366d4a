"""Writes ready recipes: one template for each known method, filled in with the models of the user.

Name the models from the cheapest to the strongest. Whoever aggregates, selects or compares is the last. docs/methods.md
tells what each method is good for. Every text that is written here has been read as a recipe first.
"""

import json
from collections.abc import Callable, Sequence

from msgspec import Struct

from partsong.errors import RecipeError
from partsong.recipe import Recipe
from partsong.recipes.reading import tables_in
from partsong.toml import closest, convert

SELF_SAMPLES = 6  # of Self-MoA, as in its paper
VOTERS = 5  # seats of a vote, or one for each model if there are more models
LEAVES = 8  # seats of the first layer of a tree
POPULATION, DRAWN, ROUNDS = 8, 3, 2  # of RSA, whose paper has 16, 4 and 10
WARM = "temperature = 0.7"  # so that samples of one model differ

Models = tuple[str, ...]


class Template(Struct, frozen=True):
    """A method as a recipe without its models.

    about: one line on the method, for `partsong recipes`
    source: the paper that the method comes from
    least, most: how many models it takes; `None` for no upper limit
    write: the tables of the recipe with these models, as TOML
    """

    about: str
    source: str
    least: int
    most: int | None
    write: Callable[[Models], list[str]]

    @property
    def count(self) -> str:
        """How many models the template takes, in words."""
        if self.most == self.least:
            return f"exactly {self.least} model{'s' * (self.least != 1)}"
        return f"at least {self.least} model{'s' * (self.least != 1)}"


def from_template(name: str, models: Sequence[str]) -> str:
    """A recipe as TOML, with comments, that performs a method with these models.

    models: ids of the models, from the cheapest to the strongest

    Raises `RecipeError` with the known names if there is no such template, with the number of models that it takes if
    there are more or fewer, and with the reason if an id is wrong.
    """
    if (template := TEMPLATES.get(name)) is None:
        raise RecipeError(f'there is no template "{name}"; known: {", ".join(TEMPLATES)}{closest(name, TEMPLATES)}')
    if len(models) < template.least or (template.most is not None and len(models) > template.most):
        raise RecipeError(f"the template {name} takes {template.count}, but {len(models)} are named")
    body = "\n".join(["", *template.write(tuple(models))])
    head = f"name = {_quoted(f'my-{name}')}\nabout = {_quoted(template.about)}\ndeadline = 600\n"
    recipe = convert(tables_in(head + body), Recipe, f"template {name}", RecipeError)
    calls = f"{recipe.calls} call{'s' * (recipe.calls != 1)}"
    comments = f"# {template.about} ({template.source}).\n# At most {calls} for each question, without retries.\n\n"
    return comments + head + body


def _moa(models: Models, layers: int = 2) -> list[str]:
    return [*(line for _ in range(layers) for line in _layer(models)), *_last(models)]


def _moa_lite(models: Models) -> list[str]:
    return _moa(models, 1)


def _self_moa(models: Models) -> list[str]:
    return [*_layer(models, SELF_SAMPLES), *_last(models)]


def _vote(models: Models) -> list[str]:
    rules = ('method = "vote"', "majority = 0    # the largest group wins", 'otherwise = "fail"')
    return [*_layer(models, _each(VOTERS, models)), "[aggregator]", *rules, ""]


def _vote_else_synthesize(models: Models) -> list[str]:
    rules = ('method = "vote"', "majority = 0.5", 'otherwise = "synthesize"    # asks the model above')
    return [*_layer(models, _each(VOTERS, models)), *_last(models, *rules)]


def _cascade(models: Models) -> list[str]:
    first, *later = models
    agree = ("agree = 2      # two cheap seats that say the same are the answer", "at_once = 2    # the third waits")
    strong = _layer(tuple(later), 1, 'sees = "none"    # no cheap proposal leads them') if len(later) > 1 else []
    return [*_layer((first,), 3, *agree), *strong, *_last(models)]


def _tree(models: Models) -> list[str]:
    samples = _each(LEAVES, models)
    lines, seats = _layer(models, samples), samples * len(models)
    while (seats := seats // 2) > 1:
        lines += _layer(models[-1:], seats, 'sees = "split"    # each joins its own share of the proposals')
    return [*lines, *_last(models)]


def _rsa(models: Models) -> list[str]:
    samples = _each(POPULATION, models)
    sees = f"sees = {DRAWN}    # each seat draws its own"
    rounds = [line for _ in range(ROUNDS) for line in _layer(models, samples, sees)]
    return [*_layer(models, samples), *rounds, *_last(models)]


def _critique(models: Models) -> list[str]:
    return [*_layer(models), *_layer(models, 1, "comments = true    # the proposals stay beside them"), *_last(models)]


def _fusion(models: Models) -> list[str]:
    return [*_layer(models), "[analyst]", f"model = {_quoted(models[-1])}", "", *_last(models)]


def _select(models: Models) -> list[str]:
    return [*_layer(models), *_last(models, 'method = "select"')]


TEMPLATES: dict[str, Template] = {
    "moa": Template("Two layers of all models, then the last aggregates", "arXiv 2406.04692", 2, None, _moa),
    "moa-lite": Template("All models propose, the last aggregates", "arXiv 2406.04692", 2, None, _moa_lite),
    "self-moa": Template("One model proposes six times and aggregates", "arXiv 2502.00674", 1, 1, _self_moa),
    "vote": Template("What most seats state is the answer", "arXiv 2203.11171", 1, None, _vote),
    "vote-else-synthesize": Template(
        "A majority decides, else the last model aggregates", "arXiv 2203.11171", 1, None, _vote_else_synthesize
    ),
    "cascade": Template(
        "The cheapest model answers if it agrees with itself, else the others", "arXiv 2305.11860", 2, None, _cascade
    ),
    "tree": Template("Proposals are joined in shares, layer by layer", "arXiv 2512.18126", 1, None, _tree),
    "rsa": Template("Each seat joins a random part of the proposals, twice", "arXiv 2509.26626", 1, None, _rsa),
    "critique": Template("All models propose, then all comment", "arXiv 2601.16596", 2, None, _critique),
    "fusion": Template("The last model compares the proposals, then aggregates", "no paper", 2, None, _fusion),
    "select": Template("The last model selects the best proposal", "arXiv 2603.20324", 2, None, _select),
}


def _layer(models: Models, samples: int = 1, *words: str) -> list[str]:
    """A layer in which each of these models has so many seats, and whose other fields are the lines `words`."""
    more = f", samples = {samples}, {WARM}" if samples > 1 else ""
    agents = (f"    {{ model = {_quoted(model)}{more} }}," for model in models)
    return ["[[layers]]", "agents = [", *agents, "]", *words, ""]


def _last(models: Models, *words: str) -> list[str]:
    """The aggregator, which is the last model, and whose other fields are the lines `words`."""
    return ["[aggregator]", f"model = {_quoted(models[-1])}", *words, ""]


def _each(seats: int, models: Models) -> int:
    """The number of seats of each model, so that all of them have at least `seats`."""
    return -(-seats // len(models))


def _quoted(text: str) -> str:
    """The text as a string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
