"""All commands as a table: the name, the function and the `--help` text of each command.

Functions are named as text, so that `partsong --help` imports no command. Groups and commands are listed in the order
in which a new user needs them.
"""

from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    words: words of the command on the command line, such as `bench run`
    function: `module:name` of the function that runs the command; empty if the command only has subcommands
    help: help text, whose first sentence says what the command does
    arguments: arguments for each line of the usage
    examples: example command lines, without `partsong`
    commands: subcommands; none by default
    """

    words: str
    function: str
    help: str
    arguments: tuple[str, ...]
    examples: tuple[str, ...]
    commands: tuple["Command", ...] = ()

    @property
    def name(self) -> str:
        return self.words.rpartition(" ")[2]

    @property
    def usage(self) -> str:
        lines = (f"partsong {self.words} {arguments}".rstrip() for arguments in self.arguments)
        return "Usage: " + "\n       ".join(lines)


ASK = (
    Command(
        "ask",
        "partsong.cli.ask:ask",
        "Ask a mixture of models, or one model, a question.",
        ("[OPTIONS] QUESTION",),
        (
            'ask "Why is the sky blue?"',
            'ask --recipe moa-lite --proposals "Is 2027 a prime number?"',
            'ask --model openai:gpt-6.1-sol "Write a haiku about rain"',
            'ask "Summarise this for a child:" - < report.txt',
            'ask --file report.pdf "What has changed since last year?"',
            'ask --image receipt.jpg "What did I pay?"',
            'ask --continue last "And in one sentence?"',
            'ask --json "Name three rivers" | jq -r "select(.event == \\"run_finished\\").answer.text"',
        ),
    ),
    Command(
        "chat",
        "partsong.cli.chat:chat",
        "Talk with a mixture of models, turn by turn.",
        ("[OPTIONS]",),
        ("chat", "chat --recipe frontier", "chat --continue last"),
    ),
    Command(
        "batch",
        "partsong.cli.batch:batch",
        "Answer a file of questions. After a stop, the same command goes on with what is left.",
        ("QUESTIONS.jsonl --out ANSWERS.jsonl [OPTIONS]",),
        (
            "batch questions.jsonl --out answers.jsonl",
            "batch questions.jsonl --out answers.jsonl --recipe moa-lite --at-once 16 --max-dollars 5",
        ),
    ),
)

SET_UP = (
    Command(
        "recipes",
        "partsong.cli.recipes:recipes",
        "List the recipes, or print one to copy and edit.",
        ("[NAME]",),
        ("recipes", "recipes moa-lite > mine.toml", "ask --recipe mine.toml …"),
    ),
    Command(
        "models",
        "partsong.cli.models:models",
        "List the providers, whether their keys are set, and the local models; or the models of one provider.",
        ("[PROVIDER] [OPTIONS]",),
        ("models", "models openrouter", "models ollama"),
    ),
    Command(
        "cost",
        "partsong.cli.cost:cost",
        "Estimate what a question costs, typically and at most. No model is called, and no key is needed.",
        ("RECIPE [OPTIONS]",),
        ("cost moa-lite", "cost mine.toml --prompt-tokens 20000 --json"),
    ),
    Command(
        "pull",
        "partsong.cli.pull:pull",
        "Download the weights of local models before they are needed.",
        ("[NAME]… [OPTIONS]",),
        ("pull", "pull smollm2-135m qwen2.5-coder-1.5b", "pull owner/repository/model.gguf"),
    ),
    Command(
        "doctor",
        "partsong.cli.doctor:doctor",
        "Check the configuration, the keys and the endpoints of the providers.",
        ("[OPTIONS]",),
        ("doctor", "doctor --config elsewhere.toml"),
    ),
    Command(
        "completion",
        "partsong.cli.completion:completion",
        "Print a script that completes commands, options and names in bash, zsh or fish.",
        ("SHELL",),
        (
            "completion bash > ~/.local/share/bash-completion/completions/partsong",
            "completion zsh > ~/.zfunc/_partsong",
            "completion fish > ~/.config/fish/completions/partsong.fish",
        ),
    ),
)

LOOK_BACK = (
    Command(
        "history",
        "partsong.cli.history:history",
        "List the stored runs, or remove old ones.",
        ("[OPTIONS]", "prune --older-than AGE"),
        ("history", "history --limit 100 --json", "history prune --older-than 30d"),
    ),
    Command(
        "show",
        "partsong.cli.show:show",
        "Show a stored run: its seats, timeline, proposals, answer and cost.",
        ("RUN [OPTIONS]",),
        ("show last", "show 4f1c --brief", 'show last --json | jq ".layers[0].seats[].text"'),
    ),
    Command(
        "analyse",
        "partsong.cli.analyse:analyse",
        "Compare the proposals of a stored run: where they agree, where they contradict each other, what is missing.",
        ("RUN [OPTIONS]",),
        (
            "analyse last",
            "analyse 4f1c --model openai:gpt-6.1-sol",
            'analyse last --json | jq ".analysis.contradictions"',
        ),
    ),
    Command(
        "again",
        "partsong.cli.again:again",
        "Aggregate the proposals of a stored run again, with another model or other seats. Only what is new is paid.",
        ("RUN [OPTIONS]",),
        ("again last", "again 4f1c --aggregator openai:gpt-6.1-sol", "again last --retry 0.2 --without 0.1"),
    ),
    Command(
        "replay",
        "partsong.cli.replay:replay",
        "Play a stored run on the terminal as it happened. No model is called.",
        ("RUN [OPTIONS]",),
        ("replay last", "replay 4f1c --speed 4", "replay last --at-once --json"),
    ),
)

STORE = (
    Command(
        "store copy",
        "partsong.cli.store:copy",
        "Copy the store of this machine into the PostgreSQL database that several hosts share.",
        ("[OPTIONS]",),
        ("store copy", "store copy --from journal.db --to postgresql://partsong@db.example/partsong"),
    ),
)

SERVE = (
    Command(
        "ui",
        "partsong.cli.ui:ui",
        "Open the web page in the browser, served by this machine for itself alone.",
        ("[OPTIONS]",),
        ("ui", "ui --recipe frontier --recipe mine.toml --port 0"),
    ),
    Command(
        "serve",
        "partsong.cli.serve:serve",
        "Serve recipes and models to clients of the OpenAI and Anthropic APIs. Options override the configuration.",
        ("[OPTIONS]",),
        ("serve", "serve --recipe frontier --recipe mine.toml --port 9000 --workers 2"),
    ),
    Command(
        "mcp",
        "partsong.cli.mcp:mcp",
        "Serve recipes, or the files of a folder, as tools of the Model Context Protocol (over standard streams).",
        ("[OPTIONS]", "files FOLDER"),
        ("mcp", "mcp --recipe frontier --recipe mine.toml", "mcp files notes"),
    ),
    Command(
        "keys",
        "partsong.cli.keys:keys",
        "Make, list or remove the keys that clients need to call the server; or keep the key of a provider.",
        ("add NAME [OPTIONS]", "list [OPTIONS]", "remove NAME", "set PROVIDER", "unset PROVIDER"),
        ("keys add alice --max-dollars-per-day 5", "keys list", "keys remove alice", "keys set openrouter"),
    ),
    Command(
        "store",
        "",
        "Move the store to a database that several hosts share.",
        ("COMMAND [OPTIONS]",),
        ("store copy",),
        commands=STORE,
    ),
)

BENCH = (
    Command(
        "bench run",
        "partsong.cli.bench_run:bench_run",
        "Let recipes answer a task, and grade the answers. After a stop, the same command goes on with what is left.",
        ("TASK|FILE --recipe NAME|FILE… [OPTIONS]",),
        ("bench run demo --recipe local", "bench run demo --recipe a.toml --recipe b.toml"),
    ),
    Command(
        "bench score",
        "partsong.cli.bench_score:score",
        "Compute scores from stored judgments of a public benchmark. No model is called.",
        (
            "alpaca_eval FOLDER [OPTIONS]",
            "arena_hard FOLDER [OPTIONS]",
            "flask FILE.jsonl [OPTIONS]",
            "mt_bench FILE.jsonl [OPTIONS]",
        ),
        ("bench score alpaca_eval results/ --json", "bench score mt_bench judgments.jsonl"),
    ),
    Command(
        "bench similar",
        "partsong.cli.bench_similar:similar",
        "Measure whether outputs that a judge prefers are more similar to the aggregated ones.",
        ("FOLDER --aggregate MODEL [OPTIONS]",),
        ("bench similar results/ --aggregate Together-MoA",),
    ),
)

MEASURE = (
    Command(
        "compare",
        "partsong.cli.compare:compare",
        "Compare recipes on your prompts, and with what one model does for the same money.",
        ("TASK|FILE --recipe NAME|FILE… [OPTIONS]",),
        (
            "compare demo --recipe local",
            "compare prompts.jsonl --recipe a.toml --recipe b.toml --judge openai:gpt-6.1-sol --max-dollars 5",
        ),
    ),
    Command(
        "tune",
        "partsong.cli.tune:tune",
        "Find the recipe that is worth its price on your prompts, or say that none is.",
        ("TASK|FILE --models A,B,… [OPTIONS]",),
        (
            "tune prompts.jsonl --models openai:gpt-6.1-sol,anthropic:claude-sonnet-5-5 --max-dollars 10",
            "tune prompts.jsonl --models local:qwen2.5-coder-1.5b,local:smollm2-135m --dry-run",
        ),
    ),
    Command(
        "bench",
        "",
        "Run recipes on tasks, and score stored judgments.",
        ("COMMAND [OPTIONS]",),
        ("bench run demo --recipe local", "bench score mt_bench judgments.jsonl"),
        commands=BENCH,
    ),
    Command(
        "paper",
        "partsong.cli.paper:paper",
        "Run the experiments of the Mixture-of-Agents paper on any models, beside the paper's numbers.",
        ("[TABLE|FIGURE] [OPTIONS]",),
        ("paper", "paper table-3 --models openai:a,anthropic:b --task prompts.jsonl"),
    ),
)

GROUPS = {"Ask": ASK, "Set up": SET_UP, "Look back": LOOK_BACK, "Serve": SERVE, "Measure": MEASURE}
