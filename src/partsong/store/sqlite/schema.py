"""The tables of the store. A file's `user_version` says how many of these migrations it has seen.

A migration that has been released is never changed; a new one is added behind it. Dollars are text, so that they stay
exact. What was asked and answered is JSON, prompts and events deflated.
"""

APPLICATION = 0x70737467  # "pstg": what tells our file from another program's

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION}",
        # Every finished call. The key, what was asked and what was answered are absent where words are not to be kept.
        """
        CREATE TABLE calls (
            number INTEGER PRIMARY KEY,
            key BLOB,
            model TEXT NOT NULL,
            answered TEXT NOT NULL,
            started REAL NOT NULL,
            seconds REAL NOT NULL,
            first REAL,
            input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            dollars TEXT,
            finish_reason TEXT NOT NULL,
            prompt INTEGER,
            request BLOB,
            answer BLOB
        )
        """,
        "CREATE INDEX calls_by_key ON calls (key)",
        "CREATE INDEX calls_by_model ON calls (model, started)",
        "CREATE INDEX calls_by_prompt ON calls (prompt)",
        # The messages of calls: the seats of a layer are mostly told the same.
        "CREATE TABLE prompts (number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, messages BLOB NOT NULL)",
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            mode TEXT NOT NULL,
            started REAL NOT NULL,
            seconds REAL NOT NULL,
            recipe TEXT NOT NULL,
            model TEXT NOT NULL,
            question TEXT NOT NULL,
            status TEXT NOT NULL,
            cause TEXT NOT NULL,
            calls INTEGER NOT NULL,
            stored INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            dollars TEXT,
            losses INTEGER NOT NULL
        )
        """,
        "CREATE INDEX runs_by_start ON runs (started)",
        # The events of a run, a few at a time while it goes on; one piece once it has ended.
        "CREATE TABLE pieces (run TEXT NOT NULL, number INTEGER NOT NULL, events BLOB NOT NULL, UNIQUE (run, number))",
        # What was spent on a day (UTC) in a scope; and what is held for calls that are not finished, at its worst case.
        "CREATE TABLE spent (day TEXT NOT NULL, scope TEXT NOT NULL, dollars TEXT NOT NULL, UNIQUE (day, scope))",
        """
        CREATE TABLE holds (
            id INTEGER NOT NULL,
            day TEXT NOT NULL,
            scope TEXT NOT NULL,
            dollars TEXT NOT NULL,
            UNIQUE (id, scope)
        )
        """,
        "CREATE INDEX holds_by_day ON holds (day)",
        "CREATE TABLE last_hold (id INTEGER NOT NULL)",
        "INSERT INTO last_hold VALUES (0)",
    ),
    (
        # Who asked for a run (the name of a key, "" for this user), and what it was called, as JSON.
        "ALTER TABLE runs ADD COLUMN caller TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'",
    ),
    (
        # How many layers a run had, its aggregator's among them; 0 where nobody counted yet.
        "ALTER TABLE runs ADD COLUMN layers INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX runs_by_caller ON runs (caller, started, id)",
        # What each model of a run has done in it; runs of before have none.
        """
        CREATE TABLE shares (
            run TEXT NOT NULL,
            model TEXT NOT NULL,
            calls INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            dollars TEXT,
            losses INTEGER NOT NULL,
            UNIQUE (run, model)
        )
        """,
        "CREATE INDEX shares_by_model ON shares (model, run)",
        # Which of two recipes' answers somebody liked better; `one` is the recipe whose name comes first.
        """
        CREATE TABLE votes (
            number INTEGER PRIMARY KEY,
            caller TEXT NOT NULL,
            moment REAL NOT NULL,
            question TEXT NOT NULL,
            one TEXT NOT NULL,
            one_run TEXT NOT NULL,
            other TEXT NOT NULL,
            other_run TEXT NOT NULL,
            choice TEXT NOT NULL,
            blind INTEGER NOT NULL,
            UNIQUE (caller, one_run, other_run)
        )
        """,
        "CREATE INDEX votes_by_recipes ON votes (caller, one, other)",
    ),
    (
        # Requests at work of keys that may make so many at once, each held until a moment that is put off again and
        # again; and when what a key owes for its requests of the last minute is paid off.
        "CREATE TABLE places (place INTEGER PRIMARY KEY, caller TEXT NOT NULL, until REAL NOT NULL)",
        "CREATE TABLE debts (caller TEXT PRIMARY KEY, due REAL NOT NULL) WITHOUT ROWID",
    ),
)
