"""The time of a processor that a search takes on a finished pool of 300 prompts.

    python -m benchmarks.tune [PROMPTS] [ANSWERS]

Three models with 5 answers each at temperature 0.7, and one at temperature 0. The answers are texts as models write
them, so reading what they state is included, as are all methods, the choice and the test on 450 held-out prompts.
Nothing is asked. The samples of an early stop, as a share of the vote's, are printed too.
"""

import random
import sys
import time

import numpy as np

from partsong.bench.statistics.paired import paired_test
from partsong.bench.tune.choosing import choose
from partsong.bench.tune.methods import measure, methods_of
from partsong.bench.tune.pool import Drawn, Orders, pooled
from partsong.bench.tune.statements import statement

MODELS = {"a": (0.55, 1.0), "b": (0.65, 3.0), "c": (0.75, 9.0)}  # skill and price


def main() -> None:
    prompts = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    answers = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    chance = random.Random(1)
    ease = [chance.betavariate(1.4, 0.6) - 0.7 for _ in range(prompts)]

    def answer(skill: float, price: float, place: int) -> Drawn:
        right = chance.random() < skill + ease[place]
        said = str(place if right else chance.choice([place + 1, place + 2, place * 2]))
        text = f"{'Let us work through the question step by step. ' * 30}\nSo the answer is {said}."
        return Drawn(text, float(right), price, chance.random())

    drawn, settings = {}, {}
    for name, (skill, price) in MODELS.items():
        for cold, count in (("", answers), (" at temperature 0", 1)):
            drawn[name + cold] = [[answer(skill, price, place) for _ in range(count)] for place in range(prompts)]
            settings[name + cold] = (f"x:{name}", 0.0 if cold else 0.7)
    began = time.process_time()
    members = pooled(drawn, settings, statement)
    orders = Orders(members, 0)
    measured = [measure(method, members, orders) for method in methods_of(members)]
    choice = choose(measured, 450)
    held = np.random.default_rng(2).random((2, 450)) < 0.7
    paired_test(held[0].astype(float), held[1].astype(float))
    spent = time.process_time() - began
    print(f"{len(measured)} recipes of {prompts} prompts: {spent:.2f} s of CPU")
    if choice is not None:
        print(f"finalist {choice.finalist.name}, baseline {choice.baseline.name}, power {choice.power:.2f}")
    for name in MODELS:
        calls = {each.name: (each.calls.mean(), each.mean) for each in measured}
        vote, right = calls[f"vote of {answers} × {name}"]
        for agree in (2, 3):
            if (found := calls.get(f"up to {answers} × {name} until {agree} agree")) is not None:
                share, quality = found[0] / vote, found[1]
                print(f"{name}: until {agree} of {answers} agree takes {share:.0%} of the answers of the vote, "
                      f"{quality:.1%} right against {right:.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
