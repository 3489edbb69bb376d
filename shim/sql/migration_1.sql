-- Version 1: containers, operations, deliveries, events. See shim/records.py for what the fields mean.

-- When this journal was begun, in seconds since the epoch: of what ended before, it knows nothing.
CREATE TABLE journal (born REAL NOT NULL) STRICT;
INSERT INTO journal (born) VALUES ((julianday('now') - 2440587.5) * 86400.0);

CREATE TABLE container (
    id          TEXT PRIMARY KEY CHECK (id <> ''),
    sandbox_id  TEXT NOT NULL,
    name        TEXT NOT NULL,
    pod         TEXT NOT NULL,
    namespace   TEXT NOT NULL,
    uid         TEXT NOT NULL
) STRICT;

CREATE TABLE operation (
    id            TEXT PRIMARY KEY CHECK (id <> ''),
    kind          TEXT NOT NULL CHECK (kind IN ('start', 'stop')),
    reason        TEXT NOT NULL CHECK (reason IN ('StartContainer', 'StopContainer', 'StopPodSandbox', 'RemoveContainer',
                                                   'RemovePodSandbox', 'FailedPostStart', 'Exited')),
    container_id  TEXT NOT NULL REFERENCES container (id),
    state         TEXT NOT NULL CHECK (state IN ('accepted', 'hooks_done', 'forwarded', 'done')),
    timeout       INTEGER NOT NULL CHECK (timeout >= 0),
    deadline      REAL,
    boot_id       TEXT NOT NULL,
    created_at    REAL NOT NULL,
    finished_at   REAL,
    error         TEXT NOT NULL DEFAULT '',
    CHECK ((kind = 'start') = (reason = 'StartContainer')),
    CHECK (kind = 'stop' OR state <> 'hooks_done'),
    CHECK ((state = 'done') = (finished_at IS NOT NULL))
) STRICT;

-- One open operation of each kind a container: a second stop joins the first.
CREATE UNIQUE INDEX operation_open ON operation (container_id, kind) WHERE state <> 'done';

CREATE INDEX operation_container ON operation (container_id);
CREATE INDEX operation_finished ON operation (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE delivery (
    id             TEXT PRIMARY KEY CHECK (id <> ''),
    operation_id   TEXT NOT NULL REFERENCES operation (id),
    container_id   TEXT NOT NULL REFERENCES container (id),
    hook           TEXT NOT NULL CHECK (hook IN ('postStart', 'preStop')),
    position       INTEGER NOT NULL CHECK (position >= 0),
    handler        TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('armed', 'pending', 'delivering', 'delivered', 'failed',
                                                  'exited', 'void', 'skipped', 'missed')),
    attempts       INTEGER NOT NULL CHECK (attempts >= 0),
    interruptions  INTEGER NOT NULL CHECK (interruptions BETWEEN 0 AND attempts),
    error          TEXT NOT NULL,
    exit_status    INTEGER,
    http_status    INTEGER,
    output         BLOB NOT NULL,
    created_at     REAL NOT NULL,
    finished_at    REAL,
    CHECK ((state IN ('armed', 'pending', 'delivering')) = (finished_at IS NULL)),
    CHECK (state <> 'delivered' OR error = ''),
    CHECK (state NOT IN ('delivering', 'delivered', 'exited') OR attempts > 0),
    CHECK (state <> 'armed' OR (hook = 'postStart' AND attempts = 0))
) STRICT;

-- A container starts once and ends once, so a repeated request finds the outcome.
CREATE UNIQUE INDEX delivery_once ON delivery (container_id, hook, position) WHERE state NOT IN ('void', 'skipped');
CREATE INDEX delivery_operation ON delivery (operation_id);
CREATE INDEX delivery_container ON delivery (container_id);

CREATE TABLE event (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at            REAL NOT NULL,
    type          TEXT NOT NULL CHECK (type IN ('Normal', 'Warning')),
    reason        TEXT NOT NULL CHECK (reason <> ''),
    container_id  TEXT NOT NULL REFERENCES container (id),
    delivery_id   TEXT NOT NULL REFERENCES delivery (id),
    message       TEXT NOT NULL
) STRICT;
CREATE INDEX event_delivery ON event (delivery_id);
