"""The command as people and programs use it: a process of its own, scripted models, in pipes and on a screen."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import pytest

from partsong.cli.ask import choose, reseeded
from partsong.cli.main import as_words, run
from partsong.cli.question import read_image, read_question
from partsong.configuration import Configuration
from partsong.errors import InputError, QuestionError
from partsong.events import ProposalFinished, RunFinished, from_json
from partsong.recipe import Agent, Aggregator, Layer, Recipe
from partsong.recipes.finding import find_recipe
from tests import grammar
from tests.screen import Screen
from tests.upstream import HTML, Reply, Server

COMMANDS = ("ask", "batch", "history", "show", "replay", "cost", "recipes", "models", "pull", "compare", "doctor")
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def partsong(
    *arguments: str,
    stdin: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "partsong", *arguments],
        input=b"" if stdin is None else stdin,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    )


def code_of(*arguments: str) -> int:
    """The exit code of a command that is run in this process: quick, for what goes wrong before anything is asked."""
    try:
        return run(arguments)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1


@pytest.fixture
def duet(tmp_path: Path) -> str:
    """A recipe of two voices and an aggregator that says "It is so."."""
    return write(
        tmp_path, "scripted:alice?text=First", "scripted:bob?text=Second", last="scripted:carol?text=It is so."
    )


def write(folder: Path, *models: str, last: str, name: str = "duet") -> str:
    file = folder / f"{name}.toml"
    agents = ", ".join(json.dumps(model) for model in models)
    file.write_text(f'name = "{name}"\n[[layers]]\nagents = [{agents}]\n[aggregator]\nmodel = {json.dumps(last)}\n')
    return str(file)


# ---- help, version, and what they cost


def test_help_names_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("--help") == 0
    said = capfd.readouterr().out
    assert all(f" {command} " in said for command in COMMANDS)
    assert code_of() == 0
    assert capfd.readouterr().out == said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of(command, "--help") == 0
    said = capfd.readouterr().out
    assert f"Usage: partsong {command}" in said
    assert f"Examples:\n  partsong {command}" in said


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert code_of("--version") == 0
    assert capfd.readouterr().out == f"partsong {version('partsong')}\n"


def test_help_imports_no_provider_and_nothing_heavy() -> None:
    program = (
        "import sys; from partsong.cli.main import run; run(sys.argv[1:]);"
        "print([name for name in sys.modules if name.startswith(('aiohttp', 'rich.live', 'rich.markdown', 'xllamacpp',"
        " 'genai_prices', 'uvloop', 'partsong.providers', 'partsong.weights', 'partsong.middleware'))])"
    )
    for arguments in (["--help"], ["ask", "--help"]):
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, encoding="utf-8")
        assert done.stdout.splitlines()[-1] == "[]", done.stderr


# ---- ask, in a pipe


def test_piped_it_is_the_answer_alone(duet: str) -> None:
    done = partsong("ask", "-r", duet, "Is it?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "It is so.\n", "")


def test_losses_are_one_line_on_standard_error(tmp_path: Path) -> None:
    models = ("scripted:alice", "scripted:bob?fail=rate", "scripted:eve?fail=timeout")
    recipe = write(tmp_path, *models, last="scripted:carol?text=Yes.")
    done = partsong("ask", "-r", recipe, "Is it?")
    assert (done.returncode, done.stdout) == (0, "Yes.\n")
    assert done.stderr == (
        "partsong: 1 of 3 answered; lost (0, 1) scripted:bob: rate: bob failed, as its script says; "
        "lost (0, 2) scripted:eve: timeout: eve failed, as its script says\n"
    )
    quiet = partsong("ask", "--quiet", "-r", recipe, "Is it?")
    assert (quiet.stdout, quiet.stderr) == ("Yes.\n", "")


def test_proposals_stand_before_the_answer(duet: str) -> None:
    done = partsong("ask", "-r", duet, "--proposals", "Is it?")
    assert done.stdout == (
        "## (0, 0) scripted:alice\n\nFirst\n\n## (0, 1) scripted:bob\n\nSecond\n\n"
        "## (1, 0) scripted:carol\n\nIt is so.\n"
    )


def test_a_run_that_fails_says_why_and_ends_with_1(tmp_path: Path) -> None:
    recipe = write(tmp_path, "scripted:alice?fail=auth", "scripted:bob?fail=rate", last="scripted:carol")
    done = partsong("ask", "-r", recipe, "Is it?")
    assert (done.returncode, done.stdout) == (1, "")
    assert "partsong: no answer: every seat of layer 0 was lost" in done.stderr
    assert "alice failed" in done.stderr
    broke_off = partsong("ask", "-m", "scripted:a?text=One two three&fail=server&after=2", "Is it?")
    assert (broke_off.returncode, broke_off.stdout) == (1, "One two\n")
    assert broke_off.stderr == "partsong: the answer broke off: a failed, as its script says\n"


def test_json_is_every_event_on_a_line(duet: str) -> None:
    done = partsong("ask", "--json", "-r", duet, "Is it?")
    events = [from_json(line) for line in done.stdout.splitlines()]
    grammar.check(events)
    assert isinstance(events[-1], RunFinished)
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["answer"]["text"]) == ("run_finished", "It is so.")
    assert "proposal_delta" in done.stdout
    failed = partsong("ask", "--json", "-m", "scripted:a?fail=auth", "Is it?")
    assert failed.returncode == 1
    assert json.loads(failed.stdout.splitlines()[-1])["error"]["cause"] == "auth"


def test_json_tells_a_program_all_that_a_run_did_not_get(tmp_path: Path) -> None:
    (tmp_path / "losses.toml").write_text(
        'name = "losses"\nlayers = [{ agents = [{ model = "scripted:a?fail=rate", fallback = "scripted:b" },\n'
        '{ model = "scripted:c", max_tokens = 3 }, "scripted:d?fail=timeout"] }]\n'
        'aggregator = { model = "scripted:e?fail=server", fallback = "scripted:f?text=Yes." }\n'
    )
    done = partsong("ask", "--json", "-r", str(tmp_path / "losses.toml"), "Is it?")
    grammar.check([from_json(line) for line in done.stdout.splitlines()])
    assert {'"event":"proposal_replaced"', '"event":"aggregation_replaced"'} <= set(
        re.findall(r'"event":"\w+"', done.stdout)
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["planned"], last["answered"], last["model"]) == (3, 2, "scripted:f?text=Yes.")
    assert (last["answer"]["text"], last["usage"]["dollars"], last["last_resort"]) == ("Yes.", "0", False)
    told = {(loss["layer"], loss["seat"]): (loss["kind"], loss["replaced_by"]) for loss in last["losses"]}
    assert told == {
        (0, 0): ("replaced", "scripted:b"),
        (0, 1): ("truncated", ""),
        (0, 2): ("failed", ""),
        (1, 0): ("replaced", "scripted:f?text=Yes."),
    }


def test_a_question_comes_from_standard_input() -> None:
    echo = ("ask", "-m", "scripted:a?echo=true")
    assert partsong(*echo, stdin="Grüße?\n".encode()).stdout == "Grüße?\n"
    assert partsong(*echo, "-", stdin=b"Why?").stdout == "Why?\n"
    assert partsong(*echo, "Sum this up:", "-", "in", "French", stdin=b"A story.\n").stdout == (
        "Sum this up:\n\nA story.\n\nin French\n"
    )


def test_standard_input_is_left_alone_when_there_is_a_question() -> None:
    loop = f"while read -r q; do '{sys.executable}' -m partsong ask -m 'scripted:a?echo=true' $q; done"
    done = subprocess.run(["sh", "-c", loop], input="one two\nthree\n", capture_output=True, encoding="utf-8")
    assert done.stdout == "one two\nthree\n"


def test_twenty_megabytes_are_refused_without_being_read() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "partsong", "ask", "-m", "scripted:a"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        written = 0
        with contextlib.suppress(BrokenPipeError):
            while written < 20_000_000:
                written += process.stdin.write(b"x" * 100_000)
        assert process.wait(60) == 2
        assert b"standard input has more than 8,388,608 bytes" in process.stderr.read()
        assert written < 10_000_000
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


@pytest.mark.parametrize("more", [[], ["--json"], ["--proposals"]])
def test_a_reader_who_leaves_ends_it_quietly(more: list[str], tmp_path: Path) -> None:
    recipe = write(tmp_path, "scripted:a", last="scripted:b?tokens=100000&each=0.001")
    with subprocess.Popen(
        [sys.executable, "-m", "partsong", "ask", *more, "-r", recipe, "Go on"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["ask", "-m", "scripted:a", "Why?"], ["recipes"], ["models"]])
def test_a_full_disk_is_told(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "partsong", *arguments], stdout=full, stderr=subprocess.PIPE, encoding="utf-8"
        )
    assert (done.returncode, done.stderr) == (1, "partsong: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_piped_run(number: int, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "partsong", "ask", "-m", "scripted:a?each=0.02&tokens=100000", "Why?"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.send_signal(number)
        assert process.wait(60) == code
        assert process.stderr.read() == b""


def test_a_locale_without_unicode(tmp_path: Path) -> None:
    recipe = write(
        tmp_path, "scripted:alice?text=Ja", "scripted:b?fail=rate", last="scripted:carol?text=„Größe“ — 日本"
    )
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    for more in ([], ["--proposals"], ["--json"]):
        done = partsong("ask", *more, "-r", recipe, "Why?", environment=ascii_only)
        assert done.returncode == 0, done.stderr
    for arguments in (["--help"], ["recipes"], ["models"], ["ask", "--help"]):
        assert partsong(*arguments, environment=ascii_only).returncode == 0


# ---- ask, what goes wrong before it costs anything


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask", "--recpie", "x", "Why?"], "--recpie. Did you mean --recipe?"),
        (["aks", "Why?"], 'Did you mean "ask"?'),
        (["ask", "--deadline", "soon", "Why?"], 'unable to convert "soon"'),
        (["ask", "--deadline", "-1", "Why?"], "deadline is -1.0, but must be"),
        (["ask", "--max-dollars", "much", "-m", "scripted:a", "Why?"], 'unable to convert "much"'),
        (["ask", "--max-dollars", "-1", "-m", "scripted:a", "Why?"], "max_dollars is -1, but must be"),
        (["ask", "--store", "some", "-m", "scripted:a", "Why?"], 'Choose from: "off", "metadata",'),
        (["ask", "-r", "lcoal", "Why?"], 'there is no recipe "lcoal"'),
        (["ask", "-r", "nowhere.toml", "Why?"], "nowhere.toml: there is no such file"),
        (["ask", "-m", "gpt", "Why?"], '"provider:model"'),
        (["ask", "-m", "opnai:x", "Why?"], 'did you mean "openai"?'),
        (["ask", "-m", "scripted:a?tokns=3", "Why?"], 'did you mean "tokens"?'),
        (["ask", "-m", "scripted:a", "-r", "local", "Why?"], "--recipe and --model exclude each other"),
        (["ask", "-m", "scripted:a", "--config", "nowhere.toml", "Why?"], "nowhere.toml: there is no such file"),
        (["ask", "-m", "scripted:a", "-i", "nowhere.png", "Why?"], "nowhere.png: cannot be read"),
        (["ask", "-m", "scripted:a", "-", "and", "-"], "standard input can be read once"),
        (["recipes", "lcoal"], 'there is no recipe "lcoal"'),
    ],
)
def test_what_cannot_be_done_says_why_and_ends_with_2(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert code_of(*arguments) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("partsong: ")
    assert said in output.err.replace("\n", " ")


def test_a_missing_key_names_its_variable() -> None:
    done = partsong("ask", "-m", "openai:gpt-6.1-sol", "Why?", environment={"OPENAI_API_KEY": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert "OPENAI_API_KEY is not set" in done.stderr


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no picture"),
        (b"<svg></svg>", "is no picture"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "is no picture"),
        (PNG[:40], "begins as a picture (image/png), but is broken"),
        (b"\xff\xd8\xff\xe0" + b"x" * 50, "begins as a picture (image/jpeg), but is broken"),
        (b"GIF89a" + b"x" * 50, "begins as a picture (image/gif), but is broken"),
        (b"RIFF\xff\0\0\0WEBPVP8 ", "begins as a picture (image/webp), but is broken"),
    ],
)
def test_a_broken_picture_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(QuestionError, match=r"a\.png: ") as refused:
        read_image(str(tmp_path / "a.png"))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0....\xff\xd9", "image/jpeg"),
        (b"GIF87a....;", "image/gif"),
        (b"RIFF\x06\0\0\0WEBPVP", "image/webp"),
    ],
)
def test_a_picture_is_known_by_its_bytes(data: bytes, media_type: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(data)
    picture = read_image(str(tmp_path / "picture"))
    assert (picture.data, picture.media_type) == (data, media_type)


def test_pictures_go_with_the_question(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    done = partsong(
        "ask", "--json", "-m", "scripted:a", "-i", "a.png", "-i", "https://a.org/b.png", "What?", folder=tmp_path
    )
    first = json.loads(done.stdout.splitlines()[0])
    parts = first["conversation"]["messages"][-1]["parts"]
    assert [part.get("media_type", part.get("url")) for part in parts[:2]] == ["image/png", "https://a.org/b.png"]


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "is empty"), (b" \n", "is empty"), (b"Gr\xfc\xdfe", "is not UTF-8 text (byte 2)")]
)
def test_standard_input_that_is_no_question(data: bytes, said: str) -> None:
    with pytest.raises(QuestionError) as refused:
        read_question([], io.BytesIO(data))
    assert said in str(refused.value)


def test_no_question_at_all() -> None:
    with pytest.raises(QuestionError, match="there is no question"):
        read_question([], None)
    with pytest.raises(QuestionError, match="not UTF-8"):
        read_question(["\udcff"], None)


def test_words_that_look_like_options_but_are_none() -> None:
    words = as_words(["-", "-5 °C?", "- a list", "--json", "-r", "-q"])
    assert words == [" -", " -5 °C?", " - a list", "--json", "-r", "-q"]
    assert read_question([" -5 °C?", "or"], None) == "-5 °C? or"


# ---- ask, which recipe


def test_the_recipe_is_asked_for_or_configured_or_the_one_that_needs_nothing() -> None:
    configured = Configuration(recipe="moa")
    assert choose("moa-lite", None, configured).name == "moa-lite"
    assert choose(None, "scripted:a", configured).models == ("scripted:a",)
    assert choose(None, None, configured).name == "moa"
    assert choose(None, None, Configuration()) == find_recipe("local")
    with pytest.raises(InputError):
        choose("moa", "scripted:a", configured)


def test_a_seed_moves_every_seat() -> None:
    agents = (Agent("test:a", seed=1), Agent("test:b"))
    recipe = Recipe("r", (Layer(agents),), Aggregator("test:c", seed=3))
    seeded = reseeded(recipe, 7)
    assert seeded.seed == 7
    assert [agent.seed for agent in (*seeded.layers[0].agents, seeded.aggregator)] == [None, None, None]
    asked = ("ask", "-m", "scripted:a", "Why?", "--seed")
    assert partsong(*asked, "7").stdout == partsong(*asked, "7").stdout != partsong(*asked, "8").stdout


def test_configuration_here_or_the_users_or_the_one_that_is_given(tmp_path: Path) -> None:
    here, home = tmp_path / "here", tmp_path / "home" / "partsong"
    here.mkdir()
    home.mkdir(parents=True)
    for folder, text in ((here, "here"), (home, "home"), (tmp_path, "given")):
        write(folder, "scripted:a", last=f"scripted:b?text={text}", name="mine")
        (folder / "partsong.toml").write_text('recipe = "mine.toml"\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "home")}

    def answer(*arguments: str) -> str:
        return partsong("ask", *arguments, "Why?", environment=environment, folder=here).stdout.strip()

    assert answer("--config", str(tmp_path / "partsong.toml")) == "given"
    assert answer() == "here"
    (here / "partsong.toml").unlink()
    assert answer() == "home"


def test_a_deadline_ends_a_run() -> None:
    done = partsong("ask", "-m", "scripted:a?first=60", "--deadline", "0.05", "Why?")
    assert done.returncode == 1
    assert "deadline of 0.05 s" in done.stderr


def test_what_a_run_may_cost_and_lose(tmp_path: Path) -> None:
    recipe = write(tmp_path, "scripted:alice", "scripted:bob?fail=rate", last="scripted:carol?text=Yes.")
    assert partsong("ask", "-r", recipe, "Is it?").returncode == 0
    strict = partsong("ask", "-r", recipe, "--strict", "Is it?")
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "no answer: strict: (0, 1)" in strict.stderr
    capped = partsong("ask", "-r", recipe, "--max-dollars", "0.5", "--json", "Is it?")
    assert json.loads(capped.stdout.splitlines()[0])["recipe"]["max_dollars"] == "0.5"


# ---- ask, and the store


def test_a_question_that_is_asked_again_is_answered_from_the_store(tmp_path: Path) -> None:
    kept = {"PARTSONG_STATE": str(tmp_path / "state")}

    def stored(*more: str) -> list[bool]:
        done = partsong("ask", "-r", recipe, "--json", *more, "Is it?", environment=kept)
        events = [from_json(line) for line in done.stdout.splitlines()]
        proposals = [event for event in events if isinstance(event, ProposalFinished)]
        proposals.sort(key=lambda event: event.seat)
        ends = [event for event in events if isinstance(event, RunFinished)]
        return [
            answer.stored is not None
            for answer in (*(each.answer for each in proposals), *(each.answer for each in ends))
        ]

    (tmp_path / "cold.toml").write_text(
        'name = "cold"\naggregator = "scripted:carol"\n'
        'layers = [{ agents = [{ model = "scripted:alice", temperature = 0 }, "scripted:bob"] }]\n'
    )
    recipe = str(tmp_path / "cold.toml")
    assert stored() == [False, False, False]
    assert stored() == [True, False, False]  # what is drawn by lot is drawn anew
    assert stored("--cache") == [True, True, True]
    assert stored("--no-cache") == [False, False, False]
    assert stored("--cache", "--store", "off") == [False, False, False]


def test_a_store_that_cannot_be_opened_never_costs_the_answer(duet: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    broken = {"PARTSONG_STATE": str(tmp_path / "file")}
    done = partsong("ask", "-r", duet, "Is it?", environment=broken)
    assert (done.returncode, done.stdout) == (0, "It is so.\n")
    assert done.stderr.startswith("partsong: not everything is kept: ")
    assert len(done.stderr.splitlines()) == 1
    assert partsong("ask", "-q", "-r", duet, "Is it?", environment=broken).stderr == ""
    assert partsong("ask", "--store", "off", "-r", duet, "Is it?", environment=broken).stderr == ""


def test_a_store_that_is_something_else_never_costs_the_answer(duet: str, tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database at all, " * 1000)
    done = partsong("ask", "-r", duet, "Is it?", environment={"PARTSONG_STATE": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "It is so.\n")
    assert "not everything is kept" in done.stderr


# ---- ask, on a terminal


@pytest.fixture
def trio(tmp_path: Path) -> str:
    models = ("scripted:alice?tokens=12&each=0.01", "scripted:bob?fail=rate", "scripted:eve?tokens=5")
    text = quote("# So\n\nIt **is** so:\n\n- one\n- two\n\nEnd.")
    return write(tmp_path, *models, last=f"scripted:carol?text={text}&each=0.02", name="trio")


def test_the_layers_and_then_the_answer(trio: str) -> None:
    screen = Screen("ask", "-r", trio, "Is it?")
    assert screen.end() == 0
    lines = screen.lines
    assert lines[:2] == ["trio", "seat    model           state       tokens   tok/s  seconds   dollars"]
    assert [line.split()[:4] for line in lines[2:4]] == [
        ["(0,", "0)", "scripted:alice", "done"],
        ["(0,", "1)", "scripted:bob", "lost"],
    ]
    assert lines[4] == "        rate: bob failed, as its script says"
    assert [line.strip() for line in lines[6:15]] == ["", "So", "", "It is so:", "", "• one", "• two", "", "End."]
    assert lines[16].startswith("(1, 0)  scripted:carol  done")
    assert lines[17].startswith("4 calls · ")
    assert " ".join(lines[17:]).endswith(" s · 2 of 3 answered · lost (0, 1) scripted:bob: rate")
    assert screen.cursor_is_visible


def test_a_narrow_terminal(trio: str) -> None:
    screen = Screen("ask", "-r", trio, "Is it?", columns=40, rows=8)
    assert screen.end() == 0
    assert "seat   model          state      tokens" in screen.lines
    assert sum(line.startswith("(0, 0)") for line in screen.lines) == 1
    assert [line.strip() for line in screen.lines if "•" in line] == ["• one", "• two"]


@pytest.mark.parametrize(("keys", "number", "code"), [(b"\x03", 0, 130), (b"", signal.SIGTERM, 143)])
def test_ctrl_c_leaves_the_terminal_as_it_was(keys: bytes, number: int, code: int, tmp_path: Path) -> None:
    slow = write(tmp_path, "scripted:alice?tokens=9000&each=0.02", "scripted:bob?text=Yes", last="scripted:carol")
    screen = Screen("ask", "-r", slow, "Is it?")
    screen.wait_for("writing")
    assert not screen.cursor_is_visible
    if keys:
        screen.type(keys)
    else:
        screen.signal(number)
    assert screen.end() == code
    assert screen.cursor_is_visible
    assert "(0, 0)  scripted:alice  cancelled" in screen.text
    assert "(0, 1)  scripted:bob    done" in screen.text
    assert screen.lines[-1].startswith("2 calls · ~")
    assert "Traceback" not in screen.text


def test_ctrl_z_gives_the_terminal_back_for_a_while(tmp_path: Path) -> None:
    slow = write(tmp_path, "scripted:alice?tokens=40&each=0.02", last="scripted:carol?text=Done.")
    screen = Screen("ask", "-r", slow, "Is it?")
    screen.wait_for("writing")
    screen.type(b"\x1a")
    os.waitid(os.P_PID, screen.pid, os.WSTOPPED)
    screen.wait_for("^Z")
    assert screen.cursor_is_visible
    screen.signal(signal.SIGCONT)
    assert screen.end() == 0
    assert "Done." in screen.lines
    assert screen.cursor_is_visible


def test_a_failure_is_told_below_the_rows(tmp_path: Path) -> None:
    recipe = write(tmp_path, "scripted:a?fail=billing", last="scripted:b")
    screen = Screen("ask", "-r", recipe, "Is it?")
    assert screen.end() == 1
    assert "partsong: no answer: every seat of layer 0 was lost" in screen.text
    assert screen.cursor_is_visible


def test_quiet_on_a_terminal(trio: str) -> None:
    screen = Screen("ask", "--quiet", "-r", trio, "Is it?")
    assert screen.end() == 0
    assert [line.strip() for line in screen.lines] == ["So", "", "It is so:", "", "• one", "• two", "", "End."]


def test_no_colours_where_none_are_wanted(trio: str) -> None:
    plain = Screen("ask", "-r", trio, "Is it?", environment={"NO_COLOR": "1"})
    assert plain.end() == 0
    assert not re.search(rb"\x1b\[(\d+;)*[349]\d(;\d+)*m", plain.output)
    dumb = Screen("ask", "-r", trio, "Is it?", environment={"TERM": "dumb"})
    assert dumb.end() == 0
    assert b"\x1b" not in dumb.output
    assert "It is so:" in dumb.text


def test_a_terminal_without_unicode(trio: str) -> None:
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    screen = Screen("ask", "-r", trio, "Is it?", environment=environment)
    assert screen.end() == 0
    assert screen.output.isascii()
    assert " * one" in screen.lines


def test_a_model_cannot_steer_the_terminal() -> None:
    text = quote("\x1b]0;owned\x07\x1b[2J\x1b[?1049h\x9b31mwords\n\n- `\x1b[8m`")
    for more in ([], ["--json"], ["--quiet"]):
        screen = Screen("ask", *more, "-m", f"scripted:a?text={text}", "Is it?")
        assert screen.end() == 0
        assert "words" in screen.text
        for sequence in (b"\x1b]", b"\x1b[2J", b"\x1b[?1049h", b"\x1b[8m", b"\x07", b"\xc2\x9b"):
            assert sequence not in screen.output


# ---- the other commands


def test_recipes_are_listed_with_calls_per_question() -> None:
    done = partsong("recipes")
    rows = {line.split()[0]: line.split()[1:3] for line in done.stdout.splitlines() if line}
    assert rows["moa"] == ["13", "3"]
    assert rows["moa-gpt-4o"] == ["13", "3"]
    assert rows["moa-lite"] == ["7", "2"]
    assert done.returncode == 0


def test_a_recipe_is_printed_to_be_copied(tmp_path: Path) -> None:
    (tmp_path / "copy.toml").write_text(partsong("recipes", "moa-lite").stdout)
    assert find_recipe(str(tmp_path / "copy.toml")) == find_recipe("moa-lite")


def test_models_name_the_variable_and_never_the_key(tmp_path: Path) -> None:
    (tmp_path / "partsong.toml").write_text(
        '[providers.lab]\napi = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nkey_env = "LAB_KEY"\n'
        '[models."lab:a"]\nwindow = 32768\ninput_dollars_per_million = 1.5\noutput_dollars_per_million = 2\n'
    )
    environment = {"LAB_KEY": "secret-key-of-the-lab", "OPENAI_API_KEY": ""}
    done = partsong("models", folder=tmp_path, environment=environment)
    assert done.returncode == 0
    assert "LAB_KEY: set" in done.stdout
    assert "OPENAI_API_KEY: not set" in done.stdout
    assert "32,768" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_pull_takes_what_is_there_and_refuses_what_is_no_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.gguf").write_bytes(b"GGUF and more")
    (tmp_path / "other.gguf").write_bytes(b"no such thing")
    assert code_of("pull", str(tmp_path / "own.gguf")) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'own.gguf'}\n"
    assert code_of("pull", str(tmp_path / "other.gguf")) == 1
    assert "is no GGUF file" in capfd.readouterr().err
    assert code_of("pull", "local:smollm2-153m") == 2
    assert 'did you mean "smollm2-135m"?' in capfd.readouterr().err


def test_local_models_are_listed_with_licence_and_size(tmp_path: Path) -> None:
    done = partsong("models", environment={"PARTSONG_CACHE": str(tmp_path)})
    row = next(line for line in done.stdout.splitlines() if line.startswith("local:smollm2-135m"))
    assert row.split()[1:5] == ["98", "MB", "Apache-2.0", "no"]


class TestDoctor:
    def configure(self, folder: Path, **providers: str) -> None:
        text = ""
        for name, url in providers.items():
            key = 'key_env = "LAB_KEY"\n' if name == "lab" else ""
            text += f'[providers.{name}]\napi = "openai"\nbase_url = "{url}"\n{key}'
        (folder / "partsong.toml").write_text(text)

    def doctor(self, folder: Path) -> subprocess.CompletedProcess[str]:
        without = {name: "" for name in os.environ if name.endswith("_API_KEY")}
        return partsong("doctor", folder=folder, environment={**without, "LAB_KEY": "secret-key-of-the-lab"})

    def test_nothing_configured_is_nothing_broken(self, tmp_path: Path) -> None:
        done = self.doctor(tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "OPENAI_API_KEY: not set" in done.stdout
        assert "none (partsong.toml here" in done.stdout

    async def test_endpoints_answer_or_do_not(self, tmp_path: Path) -> None:
        async with Server(Reply(b'{"data": []}')) as answers, Server(Reply(b'{"error": "no"}', 401)) as refuses:
            self.configure(tmp_path, lab=f"{answers.url}/v1")
            done = await asyncio.to_thread(self.doctor, tmp_path)
            assert done.returncode == 0, done.stdout
            assert "LAB_KEY: set" in done.stdout
            assert "configuration  partsong.toml" in done.stdout
            self.configure(tmp_path, lab=f"{answers.url}/v1", other=f"{refuses.url}/v1")
            done = await asyncio.to_thread(self.doctor, tmp_path)
            assert done.returncode == 1
            assert "\nbroken: other: " in done.stdout
            assert "broken: lab" not in done.stdout
        done = await asyncio.to_thread(self.doctor, tmp_path)
        assert "\nbroken: lab: " in done.stdout
        assert "secret" not in done.stdout + done.stderr

    async def test_a_server_of_something_else(self, tmp_path: Path) -> None:
        async with Server(HTML) as server:
            self.configure(tmp_path, other=server.url)
            assert (await asyncio.to_thread(self.doctor, tmp_path)).returncode in (0, 1)

    def test_a_configured_recipe_that_cannot_be_performed(self, tmp_path: Path) -> None:
        (tmp_path / "partsong.toml").write_text('recipe = "moa-lite"\n')
        done = self.doctor(tmp_path)
        assert done.returncode == 1
        assert "broken: recipe moa-lite: together needs a key, but TOGETHER_API_KEY is not set" in done.stdout
