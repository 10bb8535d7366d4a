"""The paper in a box: what each experiment asks for, and that what it prints is what was measured."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from partsong.bench.paper.exhibits import EXHIBITS, Cast, figure_4a, table_2a, table_3, table_4
from partsong.bench.paper.measures import size_of, work_of
from partsong.bench.paper.numbers import known_as
from partsong.bench.pareto import front
from partsong.bench.report import Section, page
from partsong.cli.paper import PAPERS_MODELS
from partsong.recipes.finding import find_recipe
from tests.cli.test_cli import code_of

CAST = Cast(PAPERS_MODELS, PAPERS_MODELS[0], ("openai:gpt-4o-2024-05-13",))


def test_the_papers_cast_makes_the_papers_recipes() -> None:
    """The mixtures of Table 2a are the recipes that ship, but for their deadlines."""
    rows = {row.label: row for row in table_2a(CAST)}
    for label, name in (("MoA", "moa"), ("MoA-Lite", "moa-lite"), ("MoA with openai:gpt-4o-2024-05-13", "moa-gpt-4o")):
        made, shipped = rows[label].recipe, find_recipe(name)
        assert [layer.agents for layer in made.layers] == [layer.agents for layer in shipped.layers]
        assert (made.aggregator, made.layout) == (shipped.aggregator, "paper")
    assert rows["MoA"].paper == 65.1
    assert rows["MoA with openai:gpt-4o-2024-05-13"].paper == 65.7
    assert rows["together:microsoft/WizardLM-2-8x22B"].paper == 51.3


def test_every_row_of_the_papers_cast_has_its_number() -> None:
    for name in ("table-3", "table-4", "table-8", "figure-4a"):
        rows = EXHIBITS[name].rows(CAST)
        lacking = [row.label for row in rows if row.paper is None]
        assert not lacking, name
        assert len({row.recipe.name for row in rows}) == len(rows)
    assert {row.label: row.paper for row in table_3(CAST)}["6 proposers, of 6 models"] == 61.3
    assert [row.recipe.calls for row in table_3(CAST)] == [7, 7, 4, 4, 3, 3, 2]
    alone = next(row for row in table_4(CAST) if "dbrx-instruct alone" in row.label)
    assert alone.recipe.layers[0].agents[0].samples == 6
    rankers = [row.recipe for row in figure_4a(CAST) if row.series == "LLM ranker"]
    assert [(recipe.aggregator.method, len(recipe.layers)) for recipe in rankers] == [("select", n) for n in (1, 2, 3)]


def test_models_are_known_by_their_names() -> None:
    assert [known_as(model) for model in PAPERS_MODELS] == [
        "Qwen1.5-110B", "Qwen1.5-72B", "WizardLM-8x22B", "LLaMA-3-70B", "Mixtral-8x22B", "dbrx",
    ]  # fmt: skip
    assert known_as("openai:gpt-4o-mini") is None
    assert [size_of(model) for model in PAPERS_MODELS] == [110, 72, 39, 70, 39, 36]
    assert size_of("local:smollm2-135m") == 0.135
    assert size_of("x:qwen3-30b-a3b") == 3
    assert size_of("openai:gpt-6") is None
    assert work_of(table_2a(CAST)[1].recipe) == 2 * (110 + 110 + 110)


def test_the_front_holds_whom_nobody_beats() -> None:
    assert front([(1, 5), (2, 4), (2, 6), (3, 6), (0.5, 1)]) == [True, False, True, False, True]


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PARTSONG_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"What is {n} + 0?", "reference": str(n % 4)} for n in range(8)]
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "sums.jsonl"


MODELS = "scripted:one?text=1&output=1,scripted:two?text=2&output=2,scripted:three?text=3&output=3"


def paper(exhibit: str, *more: str) -> int:
    return code_of("paper", exhibit, "--models", MODELS, "--out", "study", *more)


def test_a_table_shows_what_was_measured(questions: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert paper("table-3", "--task", questions) == 0
    said = capfd.readouterr().out
    # The aggregator says 1 whatever it reads, which is right for two questions of eight.
    assert "3 proposers, of 3 models" in said
    assert said.count("25.00 [") == 5
    assert "the paper's numbers are of alpaca_eval, yours of sums" in said
    assert "three proposers score below two" in said
    kept = json.loads(Path("study/paper.json").read_bytes())
    assert [row["here"]["value"] for row in kept["rows"]] == [25.0] * 5
    with Path("study/table-3.csv").open(newline="") as file:
        assert next(csv.reader(file))[:3] == ["row", "paper, LC win rate", "here, %"]
    drawn = Path("study/table-3.svg").read_bytes()
    assert drawn.startswith(b"<?xml")
    assert b"3 proposers, of 3 models" in drawn
    assert Path("study/table-3.png").read_bytes().startswith(b"\x89PNG")
    assert paper("table-3", "--task", questions) == 0  # nobody is asked again, and the same bytes are drawn
    assert capfd.readouterr().out == said
    assert Path("study/table-3.svg").read_bytes() == drawn


def test_figures_by_layer_by_cost_and_by_similarity(questions: str, capfd: pytest.CaptureFixture[str]) -> None:
    ranked = MODELS.replace("text=1", "text=1")  # the ranker says 1: the first proposal
    assert code_of("paper", "figure-4a", "--models", ranked, "--task", questions, "--out", "a") == 0
    assert "LLM ranker scripted:one" in capfd.readouterr().out
    assert code_of("paper", "figure-5", "--models", MODELS, "--task", questions, "--out", "b") == 0
    assert "front by compute" in capfd.readouterr().out
    sized = MODELS.replace("scripted:one", "scripted:one-7b").replace("scripted:two", "scripted:two-70b")
    sized = sized.replace("scripted:three", "scripted:three-1b")
    assert code_of("paper", "figure-5", "--models", sized, "--task", questions, "--out", "d") == 0
    kept = {row["row"]: row for row in json.loads(Path("d/paper.json").read_bytes())["rows"]}
    assert kept["MoA"]["gflops_a_token"] == 2 * (70 + 70 + 7)
    # All are right as often: nobody beats the smallest.
    assert [name for name, row in kept.items() if row["front_by_compute"]] == ["scripted:three-1b?text=3&output=3"]
    assert Path("d/figure-5-compute.svg").is_file()
    capfd.readouterr()
    assert code_of("paper", "figure-4b", "--models", MODELS, "--task", questions, "--out", "c") == 0
    said = capfd.readouterr().out
    rows = json.loads(Path("c/paper.json").read_bytes())["rows"]
    # Each answer repeats one proposal; where exactly that one is right, the likest is the best: two questions of six.
    assert rows[0]["here"]["BLEU-5"]["n"] == 6
    assert rows[0]["here"]["BLEU-5"]["without"] == 2
    assert rows[0]["here"]["BLEU-5"]["mean"] == pytest.approx((2 * 1.0 + 4 * -0.5) / 6)
    assert "Levenshtein" in said
    assert {each.suffix for each in Path("c").iterdir()} >= {".svg", ".png", ".csv", ".html"}


def test_what_cannot_be_run_is_said_before_anything_is_asked(questions: str, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["table-9"], 'the paper has no "table-9" to run; known: table-2a'),
        (["table-8"], "name a file of its problems with --task math.jsonl"),
        (["figure-3", "--task", questions], "shows the skills of the task flask; sums has none"),
        (["table-3", "--task", questions, "--max-tokens", "0"], "--max-tokens is 0"),
        (["table-3"], "needs its data: --data FOLDER"),
    ):
        assert paper(*arguments) == 2
        assert said in capfd.readouterr().err
    assert code_of("paper", "table-3", "--models", "a,b", "--task", questions) == 2
    assert '"a" is no model' in capfd.readouterr().err
    assert not Path("study").exists()


def test_all_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("paper") == 0
    said = capfd.readouterr().out
    for name in ("2a", "2b", "3", "4", "8"):
        assert f"table-{name} " in said
    for name in ("3", "4a", "4b", "5", "6"):
        assert f"figure-{name} " in said


def test_a_report_shows_what_models_wrote_and_runs_nothing() -> None:
    class Tags(HTMLParser):
        found: set[str] = set()  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.add(tag)
            for name, value in attrs:
                assert not name.startswith("on")
                assert not (value or "").startswith(("http", "//", "javascript"))

    made = page("<b>T</b>", [Section("S", ["a"], [["<script>x</script>"]])], ["<img src=x>"], [("q", "</pre><script>")])
    tags = Tags()
    tags.feed(made.decode())
    assert not tags.found & {"script", "img", "link", "iframe", "b"}
    assert "&lt;script&gt;x" in made.decode()
