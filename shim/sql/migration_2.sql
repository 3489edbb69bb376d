-- Version 2: several hooks of one operation and where each was declared, every attempt, postStop, and the kubelet's own
-- ExecSync. SQLite cannot change a CHECK, so the two tables are made anew; foreign keys are off meanwhile.

CREATE TABLE operation_2 (
    id            TEXT PRIMARY KEY CHECK (id <> ''),
    kind          TEXT NOT NULL CHECK (kind IN ('start', 'stop', 'end', 'exec')),
    reason        TEXT NOT NULL CHECK (reason IN ('StartContainer', 'StopContainer', 'StopPodSandbox', 'RemoveContainer',
                                                   'RemovePodSandbox', 'FailedPostStart', 'Exited', 'Ended', 'ExecSync')),
    container_id  TEXT NOT NULL REFERENCES container (id),
    state         TEXT NOT NULL CHECK (state IN ('accepted', 'hooks_done', 'forwarded', 'done')),
    timeout       INTEGER NOT NULL CHECK (timeout >= 0),
    deadline      REAL,
    boot_id       TEXT NOT NULL,
    created_at    REAL NOT NULL,
    finished_at   REAL,
    error         TEXT NOT NULL DEFAULT '',
    -- How the container ended, as JSON; for an 'end' alone.
    ending        TEXT,
    CHECK ((kind = 'start') = (reason = 'StartContainer')),
    CHECK ((kind = 'end') = (reason = 'Ended')),
    CHECK ((kind = 'exec') = (reason = 'ExecSync')),
    CHECK (kind = 'stop' OR state <> 'hooks_done'),
    CHECK (kind <> 'exec' OR state IN ('accepted', 'done')),
    CHECK (kind = 'end' OR ending IS NULL),
    CHECK ((state = 'done') = (finished_at IS NOT NULL))
) STRICT;
INSERT INTO operation_2 (id, kind, reason, container_id, state, timeout, deadline, boot_id, created_at, finished_at, error)
SELECT id, kind, reason, container_id, state, timeout, deadline, boot_id, created_at, finished_at, error
FROM operation ORDER BY rowid;
DROP TABLE operation;
ALTER TABLE operation_2 RENAME TO operation;

CREATE UNIQUE INDEX operation_open ON operation (container_id, kind) WHERE state <> 'done' AND kind <> 'exec';
CREATE INDEX operation_container ON operation (container_id);
CREATE INDEX operation_finished ON operation (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE delivery_2 (
    id              TEXT PRIMARY KEY CHECK (id <> ''),
    operation_id    TEXT NOT NULL REFERENCES operation (id),
    container_id    TEXT NOT NULL REFERENCES container (id),
    hook            TEXT NOT NULL CHECK (hook IN ('postStart', 'preStop', 'postStop')),
    position        INTEGER NOT NULL CHECK (position >= 0),
    handler         TEXT NOT NULL,
    -- Who declared it: 'container', 'pod', 'kubelet', or 'rule NAME'.
    source          TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('armed', 'pending', 'delivering', 'delivered', 'failed',
                                                   'exited', 'void', 'skipped', 'missed')),
    attempts        INTEGER NOT NULL CHECK (attempts >= 0),
    interruptions   INTEGER NOT NULL CHECK (interruptions BETWEEN 0 AND attempts),
    next_attempt_at REAL,
    error           TEXT NOT NULL,
    exit_status     INTEGER,
    http_status     INTEGER,
    output          BLOB NOT NULL,
    created_at      REAL NOT NULL,
    finished_at     REAL,
    CHECK ((state IN ('armed', 'pending', 'delivering')) = (finished_at IS NULL)),
    CHECK (next_attempt_at IS NULL OR state = 'pending'),
    CHECK (state <> 'delivered' OR error = ''),
    CHECK (state NOT IN ('delivering', 'delivered', 'exited') OR attempts > 0),
    CHECK (state <> 'armed' OR (hook IN ('postStart', 'postStop') AND attempts = 0))
) STRICT;
INSERT INTO delivery_2 (id, operation_id, container_id, hook, position, handler, source, state, attempts, interruptions,
                        error, exit_status, http_status, output, created_at, finished_at)
SELECT id, operation_id, container_id, hook, position, handler, 'container', state, attempts, interruptions,
       error, exit_status, http_status, output, created_at, finished_at
FROM delivery ORDER BY rowid;
DROP TABLE delivery;
ALTER TABLE delivery_2 RENAME TO delivery;

CREATE UNIQUE INDEX delivery_once ON delivery (container_id, hook, position) WHERE state NOT IN ('void', 'skipped');
CREATE INDEX delivery_operation ON delivery (operation_id);
CREATE INDEX delivery_container ON delivery (container_id);

-- Every attempt, with how far the process of an exec hook has come, so that it can be found again.
CREATE TABLE attempt (
    delivery_id  TEXT NOT NULL REFERENCES delivery (id),
    number       INTEGER NOT NULL CHECK (number > 0),
    began_at     REAL NOT NULL,
    ended_at     REAL,
    stage        TEXT CHECK (stage IN ('starting', 'running', 'exited')),
    pid          INTEGER,
    pid_started  INTEGER,
    exit_status  INTEGER,
    http_status  INTEGER,
    error        TEXT NOT NULL DEFAULT '',
    output       BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- An event may be about the node: then it names no container and no delivery.
CREATE TABLE event_2 (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at            REAL NOT NULL,
    type          TEXT NOT NULL CHECK (type IN ('Normal', 'Warning')),
    reason        TEXT NOT NULL CHECK (reason <> ''),
    container_id  TEXT REFERENCES container (id),
    delivery_id   TEXT REFERENCES delivery (id),
    message       TEXT NOT NULL,
    CHECK ((container_id IS NULL) = (delivery_id IS NULL))
) STRICT;
INSERT INTO event_2 (id, at, type, reason, container_id, delivery_id, message)
SELECT id, at, type, reason, container_id, delivery_id, message FROM event ORDER BY id;
DROP TABLE event;
ALTER TABLE event_2 RENAME TO event;
CREATE INDEX event_delivery ON event (delivery_id);

-- A delivery as it is read: with its container, and how far the process of its current attempt has come.
CREATE VIEW delivery_read AS
SELECT delivery.*, container.sandbox_id, container.name, container.pod, container.namespace, container.uid,
       attempt.stage, attempt.pid, attempt.pid_started, attempt.exit_status AS execution_status
FROM delivery
JOIN container ON container.id = delivery.container_id
LEFT JOIN attempt ON attempt.delivery_id = delivery.id AND attempt.number = delivery.attempts;
