"""Prints what a batch would cost. The questions are read one after the other, no model is called, and nothing is
written."""

import sys
from collections import Counter
from decimal import Decimal

from partsong.assembly import info_without_model
from partsong.batch.questions import Questions
from partsong.cli.cost import cells, usual_shares, usual_tokens
from partsong.cli.printable import single_line
from partsong.cli.summary import dollars
from partsong.cli.table import print_table
from partsong.configuration import Configuration
from partsong.errors import QuestionError
from partsong.money.typical import Sum, all_of, is_priced, rows_of
from partsong.recipe import Recipe
from partsong.wire.tokens import estimate

FINE = 64  # lengths up to this are counted as they are, and longer ones are rounded up by at most 1/64


async def show_price(
    questions: Questions, recipe: Recipe, configuration: Configuration, max_dollars: Decimal | None
) -> int:
    """Print the calls, tokens and dollars of a batch, typically and at most, and return the exit code.

    Raises `QuestionError` for a wrong line.
    """
    lengths: Counter[int] = Counter()
    for request, _ in questions.read(questions.begin()):
        if request.wrong:
            raise QuestionError(request.wrong)
        lengths[rounded(sum(estimate(message.text) for message in request.conversation.messages))] += 1
    count = sum(lengths.values())
    info = {name: info_without_model(name, configuration) for name in recipe.models}
    usual, shares = await usual_tokens(recipe.models), await usual_shares(recipe)
    calls, typical, most = 0, Sum(), Sum()
    for tokens, times in lengths.items():
        row = all_of(rows_of(recipe, tokens, info, usual, shares))
        calls += row.calls * times
        typical, most = typical + multiplied(row.typical, times), most + multiplied(row.most, times)
    print_table(
        ("questions", "calls", "typically: in", "out", "dollars", "at most: in", "out", "dollars"),
        [(f"{count:,}", f"{calls:,}", *cells(typical), *cells(most))],
    )
    told = "Nothing was asked. Answers that the store has cost nothing."
    if unknown := [name for name in recipe.models if not is_priced(info[name])]:
        told += f" The price of {', '.join(unknown)} is unknown."
    elif max_dollars is not None and typical.dollars is not None and typical.dollars > max_dollars:
        reach = int(count * max_dollars / typical.dollars)
        told += f" --max-dollars {dollars(max_dollars)} typically pays for {reach:,} questions."
    print(single_line(told, sys.stdout.encoding))
    return 0


def rounded(tokens: int) -> int:
    """The length, rounded up, so that a million questions have few different lengths."""
    step = max(1, 1 << max(0, tokens.bit_length() - FINE.bit_length()))
    return max(1, -(-tokens // step) * step)


def multiplied(part: Sum, times: int) -> Sum:
    whole = None if part.dollars is None else part.dollars * times
    return Sum(part.input_tokens * times, part.output_tokens * times, whole)
