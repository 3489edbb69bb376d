-- Version 3: what the node's owner asks again or takes back, when a stop was sent to the runtime, and his questions.

-- When the runtime's StopContainer was last sent, in seconds since the epoch; of a stop alone.
ALTER TABLE operation ADD COLUMN forwarded_at REAL CHECK (forwarded_at IS NULL OR kind = 'stop');

-- When the owner has last asked for it again, in seconds since the epoch, and how often it had been sent by then.
ALTER TABLE delivery ADD COLUMN retried_at REAL;
ALTER TABLE delivery ADD COLUMN attempts_before INTEGER NOT NULL DEFAULT 0
    CHECK (attempts_before BETWEEN 0 AND attempts) CHECK (attempts_before = 0 OR retried_at IS NOT NULL);

CREATE INDEX delivery_created ON delivery (created_at);
CREATE INDEX event_at ON event (at);
CREATE INDEX event_container ON event (container_id);
