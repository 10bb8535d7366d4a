"""The tables of the store, in the schema `partsong` of a PostgreSQL database.

Whatever a caller, a model or a provider names is `bytea` in UTF-8, because `text` refuses NUL and lone surrogates.
Bytes also sort as in SQLite, whatever the collation of the database is. Moments are Unix time, and days are in UTC.

A released migration is never changed; a new one is added after it. `version.number` counts the migrations that were
made, and `version.least` is the least number that a program must know to work with the tables. A migration that older
programs can live with, such as a new table, leaves `least` as it is, so that replicas are upgraded one by one.
"""

SCHEMA = "partsong"
OLDEST = 13  # major version of PostgreSQL that is needed at least: `pg_xact_status` and `xid8`

# One for each migration: the least number of migrations that a program must know to use the tables after it.
LEAST: tuple[int, ...] = (1, 1, 1, 1)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Every finished call. Key, prompt, request and answer are NULL where words are not kept.
        """
        CREATE TABLE calls (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            key bytea,
            model bytea NOT NULL,
            answered bytea NOT NULL,
            started double precision NOT NULL,
            seconds double precision NOT NULL,
            first double precision,
            input_tokens bigint NOT NULL,
            output_tokens bigint NOT NULL,
            dollars numeric,
            finish_reason bytea NOT NULL,
            prompt bytea,
            request bytea,
            answer bytea,
            run bytea NOT NULL
        )
        """,
        "CREATE INDEX calls_by_key ON calls (key, number) WHERE key IS NOT NULL",
        "CREATE INDEX calls_by_prompt ON calls (prompt) WHERE prompt IS NOT NULL",
        "CREATE INDEX calls_by_start ON calls (started)",
        "CREATE INDEX calls_by_run ON calls (run) WHERE run != ''",
        "CREATE INDEX calls_with_output ON calls (model, started) WHERE output_tokens > 0",
        # The messages of calls by their SHA-256 digest, once for equal messages.
        "CREATE TABLE prompts (digest bytea PRIMARY KEY, messages bytea NOT NULL)",
        # Labels are JSON. The conversation is the label of this name, or empty. `folded` is the question in folded
        # case, in which a search looks for words.
        """
        CREATE TABLE runs (
            id bytea PRIMARY KEY,
            mode bytea NOT NULL,
            started double precision NOT NULL,
            seconds double precision NOT NULL,
            recipe bytea NOT NULL,
            model bytea NOT NULL,
            question bytea NOT NULL,
            status bytea NOT NULL,
            cause bytea NOT NULL,
            calls bigint NOT NULL,
            stored bigint NOT NULL,
            tokens bigint NOT NULL,
            dollars numeric,
            losses bigint NOT NULL,
            caller bytea NOT NULL,
            labels bytea NOT NULL,
            layers bigint NOT NULL,
            conversation bytea NOT NULL,
            folded bytea NOT NULL
        )
        """,
        "CREATE INDEX runs_newest ON runs (started, id)",
        "CREATE INDEX runs_by_caller ON runs (caller, started, id)",
        "CREATE INDEX runs_by_conversation ON runs (caller, conversation) WHERE conversation != ''",
        # The events of a run: many pieces while the run goes on, one piece after its end.
        "CREATE TABLE pieces (run bytea, number bigint, events bytea NOT NULL, PRIMARY KEY (run, number))",
        "ALTER TABLE pieces ALTER COLUMN events SET STORAGE EXTERNAL",  # deflated already
        # What each model has done in a run.
        """
        CREATE TABLE shares (
            run bytea,
            model bytea,
            calls bigint NOT NULL,
            tokens bigint NOT NULL,
            dollars numeric,
            losses bigint NOT NULL,
            PRIMARY KEY (run, model)
        )
        """,
        # The totals of a caller's runs on a day, and of each model in them.
        """
        CREATE TABLE day_totals (
            caller bytea,
            day date,
            runs bigint NOT NULL,
            dollars numeric NOT NULL,
            tokens numeric NOT NULL,
            lost numeric NOT NULL,
            unpriced bigint NOT NULL,
            PRIMARY KEY (caller, day)
        )
        """,
        """
        CREATE TABLE model_totals (
            caller bytea,
            day date,
            model bytea,
            runs bigint NOT NULL,
            calls numeric NOT NULL,
            dollars numeric NOT NULL,
            tokens numeric NOT NULL,
            lost numeric NOT NULL,
            unpriced bigint NOT NULL,
            PRIMARY KEY (caller, day, model)
        )
        """,
        # Which of two recipes gave the better answer. `one` is the recipe whose name comes first.
        """
        CREATE TABLE votes (
            caller bytea,
            moment double precision NOT NULL,
            question bytea NOT NULL,
            one bytea NOT NULL,
            one_run bytea,
            other bytea NOT NULL,
            other_run bytea,
            choice bytea NOT NULL,
            blind boolean NOT NULL,
            PRIMARY KEY (caller, one_run, other_run)
        )
        """,
        "CREATE INDEX votes_by_recipes ON votes (caller, one, other, choice)",
        "CREATE INDEX votes_by_other_run ON votes (caller, other_run)",
        "CREATE INDEX votes_with_question ON votes (moment) WHERE question != ''",
        # Dollars spent on a day in a scope, and dollars held for the worst case of unfinished runs. Of a hold whose
        # time is over only `begun` counts.
        "CREATE TABLE spent (day date, scope bytea, dollars numeric NOT NULL, PRIMARY KEY (day, scope))",
        "CREATE SEQUENCE hold_ids",
        """
        CREATE TABLE holds (
            id bigint,
            day date NOT NULL,
            scope bytea,
            dollars numeric NOT NULL,
            begun numeric NOT NULL,
            until double precision NOT NULL,
            PRIMARY KEY (id, scope)
        )
        """,
        "CREATE INDEX holds_by_day ON holds (day, scope)",
        # The requests under way of keys with a limit, each held until a moment; and the moment at which the debt of a
        # key for its requests of the last minute is paid off.
        "CREATE TABLE places (place bigint PRIMARY KEY, caller bytea NOT NULL, until double precision NOT NULL)",
        "CREATE INDEX places_by_caller ON places (caller)",
        "CREATE INDEX places_by_end ON places (until)",
        "CREATE TABLE debts (caller bytea PRIMARY KEY, due double precision NOT NULL)",
        "CREATE INDEX debts_by_end ON debts (due)",
        # The keys of the server, as JSON without secrets, in the order in which they were made.
        """
        CREATE TABLE keys (
            name bytea PRIMARY KEY,
            number bigint GENERATED ALWAYS AS IDENTITY,
            written bytea NOT NULL
        )
        """,
        # Runs that somebody wants to be stopped, wherever they are performed.
        "CREATE TABLE stops (run bytea PRIMARY KEY, moment double precision NOT NULL)",
        "CREATE INDEX stops_by_moment ON stops (moment)",
        # Calls that a process is about to make, so that equal calls at the same time are made once.
        "CREATE TABLE claims (key bytea PRIMARY KEY, claimant bigint NOT NULL, until double precision NOT NULL)",
        "CREATE INDEX claims_by_end ON claims (until)",
    ),
    (
        # Dollars of a day in a scope that were copied from another store, so that a second copy adds only what is new.
        """
        CREATE TABLE copied (
            source bytea,
            day date,
            scope bytea,
            dollars numeric NOT NULL,
            PRIMARY KEY (source, day, scope)
        )
        """,
    ),
    (
        # Runs that a batch or a bench has made are apart from those that somebody has asked.
        "ALTER TABLE runs ADD COLUMN source bytea NOT NULL DEFAULT ''",
        "CREATE INDEX runs_asked ON runs (caller, started, id) WHERE source = ''",
        "CREATE INDEX runs_asked_newest ON runs (started, id) WHERE source = ''",
        "CREATE INDEX runs_in_conversation ON runs (caller, conversation, started, id) WHERE conversation != ''",
        "DROP INDEX runs_by_conversation",
        # What a list of conversations shows beside the runs themselves. A title that is empty is the first question.
        """
        CREATE TABLE conversations (
            caller bytea,
            id bytea,
            title bytea NOT NULL DEFAULT '',
            folded bytea NOT NULL DEFAULT '',
            pinned boolean NOT NULL DEFAULT false,
            archived boolean NOT NULL DEFAULT false,
            latest double precision NOT NULL,
            PRIMARY KEY (caller, id)
        )
        """,
        "CREATE INDEX conversations_listed ON conversations (caller, archived, pinned, latest, id)",
        """
        INSERT INTO conversations (caller, id, latest)
        SELECT caller, conversation, max(started) FROM runs WHERE conversation != '' GROUP BY caller, conversation
        """,
        # The words of a conversation's runs in folded case. Runs of earlier versions have none.
        """
        CREATE TABLE words (
            run bytea PRIMARY KEY,
            caller bytea NOT NULL,
            conversation bytea NOT NULL,
            text bytea NOT NULL
        )
        """,
        "CREATE INDEX words_by_conversation ON words (caller, conversation)",
    ),
    (
        # The recipes that were saved on the web page of a server, as TOML.
        "CREATE TABLE recipes (name bytea PRIMARY KEY, written bytea NOT NULL)",
    ),
)
