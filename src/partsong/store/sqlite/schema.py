"""The tables of the store. The `user_version` of a file counts the migrations that were made in it.

A released migration is never changed; a new one is added after it. Dollars are text, so that they stay exact. See
`store.encoding` for the blobs.
"""

APPLICATION = 0x70737467  # "pstg": tells our file from a file of another program

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION}",
        # Every finished call. Key, prompt, request and answer are NULL where words are not kept.
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
        # The messages of calls, once for equal messages: most seats of a layer are sent the same.
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
        # The events of a run: many pieces while the run goes on, one piece after its end.
        "CREATE TABLE pieces (run TEXT NOT NULL, number INTEGER NOT NULL, events BLOB NOT NULL, UNIQUE (run, number))",
        # Dollars spent on a day (UTC) in a scope, and dollars held for the worst case of unfinished calls.
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
        # The name of the key that asked for a run ("" for this user), and the run's labels as JSON.
        "ALTER TABLE runs ADD COLUMN caller TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN labels TEXT NOT NULL DEFAULT '{}'",
    ),
    (
        # The number of layers of a run, counting the aggregator; 0 for a run of an earlier version.
        "ALTER TABLE runs ADD COLUMN layers INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX runs_by_caller ON runs (caller, started, id)",
        # What each model has done in a run. Runs of earlier versions have no rows here.
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
        # Which of two recipes gave the better answer. `one` is the recipe whose name comes first.
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
        # The requests that are being answered, for keys with a limit of requests at once; each place is held until a
        # moment. And the moment at which the debt of a key for its requests of the last minute is paid off.
        "CREATE TABLE places (place INTEGER PRIMARY KEY, caller TEXT NOT NULL, until REAL NOT NULL)",
        "CREATE TABLE debts (caller TEXT PRIMARY KEY, due REAL NOT NULL) WITHOUT ROWID",
    ),
    (
        # No query of a server may grow with the table.
        "DROP INDEX runs_by_start",
        "CREATE INDEX runs_newest ON runs (started, id)",
        "CREATE INDEX calls_by_start ON calls (started)",
        "DROP INDEX calls_by_model",
        "CREATE INDEX calls_with_output ON calls (model, started) WHERE output_tokens > 0",
        "DROP INDEX votes_by_recipes",
        "CREATE INDEX votes_by_recipes ON votes (caller, one, other, choice)",
        "CREATE INDEX votes_with_question ON votes (moment) WHERE question != ''",
        "CREATE INDEX places_by_caller ON places (caller)",
        "CREATE INDEX places_by_end ON places (until)",
        # The totals of a caller's runs on a day (UTC), and of each model in them. Dollars are in millionths of a
        # millionth, so that adding and taking away leaves no rest.
        """
        CREATE TABLE day_totals (
            caller TEXT NOT NULL,
            day TEXT NOT NULL,
            runs INTEGER NOT NULL,
            dollars INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            lost INTEGER NOT NULL,
            unpriced INTEGER NOT NULL,
            PRIMARY KEY (caller, day)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE model_totals (
            caller TEXT NOT NULL,
            day TEXT NOT NULL,
            model TEXT NOT NULL,
            runs INTEGER NOT NULL,
            calls INTEGER NOT NULL,
            dollars INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            lost INTEGER NOT NULL,
            unpriced INTEGER NOT NULL,
            PRIMARY KEY (caller, day, model)
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO day_totals
        SELECT caller, strftime('%Y-%m-%d', started, 'unixepoch') AS day, count(*),
            CAST(round(total(CAST(dollars AS REAL)) * 1e12) AS INTEGER), sum(tokens), sum(losses),
            sum(dollars IS NULL AND status != 'open')
        FROM runs GROUP BY caller, day
        """,
        """
        INSERT INTO model_totals
        SELECT runs.caller, strftime('%Y-%m-%d', runs.started, 'unixepoch') AS day, shares.model, count(*),
            sum(shares.calls), CAST(round(total(CAST(shares.dollars AS REAL)) * 1e12) AS INTEGER), sum(shares.tokens),
            sum(shares.losses), sum(shares.dollars IS NULL)
        FROM runs JOIN shares ON shares.run = runs.id GROUP BY runs.caller, day, shares.model
        """,
    ),
    (
        # What of a hold counts even if its process has died, and until when the process is known to live. A hold of an
        # earlier version counts in full.
        "ALTER TABLE holds ADD COLUMN begun TEXT NOT NULL DEFAULT '0'",
        "ALTER TABLE holds ADD COLUMN until REAL NOT NULL DEFAULT 0",
        "UPDATE holds SET begun = dollars",
    ),
    (
        # What belongs to a run, so that it can be deleted with the run: calls of earlier versions belong to none. The
        # conversation is the label of this name, or empty.
        "ALTER TABLE calls ADD COLUMN run TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX calls_by_run ON calls (run) WHERE run != ''",
        "ALTER TABLE runs ADD COLUMN conversation TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX runs_by_conversation ON runs (caller, conversation) WHERE conversation != ''",
        "CREATE INDEX votes_by_other_run ON votes (caller, other_run)",
    ),
    (
        # Runs that a batch or a bench has made are apart from those that somebody has asked.
        "ALTER TABLE runs ADD COLUMN source TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX runs_asked ON runs (caller, started, id) WHERE source = ''",
        "CREATE INDEX runs_asked_newest ON runs (started, id) WHERE source = ''",
        "DROP INDEX runs_by_conversation",
        "CREATE INDEX runs_in_conversation ON runs (caller, conversation, started, id) WHERE conversation != ''",
        # What a list of conversations shows beside the runs themselves. A title that is empty is the first question.
        """
        CREATE TABLE conversations (
            caller TEXT NOT NULL,
            id TEXT NOT NULL,
            title TEXT NOT NULL DEFAULT '',
            folded TEXT NOT NULL DEFAULT '',
            pinned INTEGER NOT NULL DEFAULT 0,
            archived INTEGER NOT NULL DEFAULT 0,
            latest REAL NOT NULL,
            PRIMARY KEY (caller, id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX conversations_listed ON conversations (caller, archived, pinned, latest, id)",
        """
        INSERT INTO conversations (caller, id, latest)
        SELECT caller, conversation, max(started) FROM runs WHERE conversation != '' GROUP BY caller, conversation
        """,
        # The words of a conversation's runs in folded case. Runs of earlier versions have none.
        """
        CREATE TABLE words (
            run TEXT PRIMARY KEY,
            caller TEXT NOT NULL,
            conversation TEXT NOT NULL,
            text TEXT NOT NULL
        )
        """,
        "CREATE INDEX words_by_conversation ON words (caller, conversation)",
    ),
)
