-- Version 4: what is open is found without reading what has ended, and a container goes with its last operation.

CREATE INDEX operation_unfinished ON operation (created_at) WHERE state <> 'done';

DELETE FROM container WHERE NOT EXISTS (SELECT 1 FROM operation WHERE container_id = container.id);
