"""The recipes of a search: those that are worked out from the pool, and those that race with new calls."""

from collections.abc import Sequence

from partsong.bench.tune.methods import Method
from partsong.bench.tune.pool import Member
from partsong.recipe import Agent, Aggregator, Layer, Recipe

TEMPERATURE = 0.7  # of answers that must differ, as in the paper
MOST_TOGETHER = 4  # answers of one model that a recipe aggregates


def member_recipe(name: str, model: str, temperature: float | None) -> Recipe:
    """Return the recipe in which one model answers alone."""
    return Recipe(name, (), Aggregator(model, temperature=temperature))


def recipe_of(method: Method, members: Sequence[Member]) -> Recipe:
    """Return the recipe that does what the method describes.

    A vote takes the largest group, however small. If no answer states anything, the first model selects an answer.
    Later layers see nothing of the earlier ones, because the pool has no answers that were written beside others.
    """
    by_name = {member.name: member for member in members}
    if method.single:
        member = by_name[method.stages[0].parts[0][0]]
        return member_recipe(method.name, member.model, member.temperature)
    layers = []
    for index, stage in enumerate(method.stages):
        agents = tuple(
            Agent(by_name[name].model, samples=count, temperature=by_name[name].temperature)
            for name, count in stage.parts
        )
        agree, at_once = (stage.agree, 1) if stage.agree else (None, None)
        layers.append(Layer(agents, agree=agree, at_once=at_once, sees="none" if index else "all"))
    chooser = by_name[method.stages[-1].parts[0][0]].model
    aggregator = Aggregator(chooser, temperature=0.0, method="vote", majority=0.0, otherwise="select")
    return Recipe(method.name, tuple(layers), aggregator, last_resort="best_proposal")


def racers_of(members: Sequence[Member], *, votes: bool) -> list[Recipe]:
    """Return the recipes that need new calls: aggregated, selected, layered, and voted with a fallback.

    members: members with several answers, the best one first
    votes: whether answers state something that can be counted

    Their first layer is asked as the pool was, so that its answers are taken from there.
    """
    several = [member for member in members if member.size >= 2]
    if not several:
        return []
    best = several[0]
    own = Agent(best.model, samples=min(best.size, MOST_TOGETHER), temperature=best.temperature)
    all_models = tuple(Agent(each.model, temperature=each.temperature) for each in several)
    racers = [
        Recipe(f"{best.model} × {own.samples}, aggregated by itself", (Layer((own,)),), Aggregator(best.model)),
        Recipe(
            f"best of {best.model} × {own.samples}",
            (Layer((own,)),),
            Aggregator(best.model, temperature=0.0, method="select"),
            last_resort="best_proposal",
        ),
    ]
    if len(all_models) >= 2:
        racers += [
            Recipe(f"all models, aggregated by {each.model}", (Layer(all_models),), Aggregator(each.model))
            for each in several[:2]
        ]
        racers.append(
            Recipe(
                f"all models, selected by {best.model}",
                (Layer(all_models),),
                Aggregator(best.model, temperature=0.0, method="select"),
                last_resort="best_proposal",
            )
        )
        layers = (Layer(all_models), Layer(all_models))
        racers.append(Recipe(f"all models in 2 layers, aggregated by {best.model}", layers, Aggregator(best.model)))
        comments = (Layer(all_models), Layer(all_models, comments=True))
        racers.append(Recipe(f"all models, criticised, aggregated by {best.model}", comments, Aggregator(best.model)))
    if own.samples >= 3:
        layers = (Layer((own,)), Layer((own,), sees=2))
        racers.append(Recipe(f"{best.model} × {own.samples}, each aggregates 2", layers, Aggregator(best.model)))
    if votes and own.samples >= 3:
        aggregator = Aggregator(best.model, method="vote", majority=0.5, otherwise="synthesize")
        racers.append(
            Recipe(f"majority of {best.model} × {own.samples}, else aggregated", (Layer((own,)),), aggregator)
        )
    return racers
