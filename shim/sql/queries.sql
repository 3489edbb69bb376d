-- What the node's owner asks of the journal. No output of a handler is among it: that is read for one delivery alone.

-- name: deliveries
SELECT id, operation_id, container_id, sandbox_id, name, pod, namespace, uid, hook, position, handler, source, state,
       attempts, interruptions, next_attempt_at, error, exit_status, http_status, x'' AS output, created_at, finished_at,
       retried_at, attempts_before, stage, pid, pid_started, execution_status
FROM delivery_read
WHERE (:pod IS NULL OR pod = :pod)
      AND (:namespace IS NULL OR namespace = :namespace)
      AND (:container IS NULL OR name = :container
           OR (length(:container) >= :shortest AND substr(container_id, 1, length(:container)) = :container))
      AND (:hook IS NULL OR hook = :hook)
      AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
      AND (:since IS NULL OR created_at >= :since OR finished_at >= :since)
ORDER BY created_at DESC, position DESC, id DESC
LIMIT :limit;

-- name: deliveries_by_id
SELECT id, operation_id, container_id, sandbox_id, name, pod, namespace, uid, hook, position, handler, source, state,
       attempts, interruptions, next_attempt_at, error, exit_status, http_status, x'' AS output, created_at, finished_at,
       retried_at, attempts_before, stage, pid, pid_started, execution_status
FROM delivery_read
WHERE id IN (SELECT value FROM json_each(:ids))
ORDER BY created_at DESC, position DESC, id DESC;

-- name: marks
SELECT delivery.id, state, attempts, next_attempt_at, finished_at, retried_at
FROM delivery JOIN container ON container.id = delivery.container_id
WHERE ((:pod IS NULL OR pod = :pod)
       AND (:namespace IS NULL OR namespace = :namespace)
       AND (:container IS NULL OR name = :container
            OR (length(:container) >= :shortest AND substr(container_id, 1, length(:container)) = :container))
       AND (:hook IS NULL OR hook = :hook)
       AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
       AND (:since IS NULL OR created_at >= :since OR finished_at >= :since))
      OR delivery.id IN (SELECT value FROM json_each(:also));

-- name: events
SELECT event.id, event.at, event.reason, event.delivery_id, event.message,
       container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM event
LEFT JOIN container ON container.id = event.container_id
LEFT JOIN delivery ON delivery.id = event.delivery_id
WHERE event.id > :after AND event.id <= :newest
      AND (:pod IS NULL OR pod = :pod)
      AND (:namespace IS NULL OR namespace = :namespace)
      AND (:container IS NULL OR name = :container
           OR (length(:container) >= :shortest AND substr(container.id, 1, length(:container)) = :container))
      AND (:hook IS NULL OR hook = :hook)
      AND (:states IS NULL OR delivery.state IN (SELECT value FROM json_each(:states)))
      AND (:since IS NULL OR event.at >= :since)
ORDER BY event.id DESC
LIMIT :limit;

-- name: events_of_delivery
SELECT event.id, event.at, event.reason, event.delivery_id, event.message,
       container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM event LEFT JOIN container ON container.id = event.container_id
WHERE delivery_id = :delivery_id
ORDER BY event.id;

-- name: newest_event
SELECT coalesce(max(id), 0) AS newest FROM event;

-- name: deliveries_that_begin
SELECT * FROM delivery_read WHERE substr(id, 1, length(:key)) = :key ORDER BY id = :key DESC, created_at LIMIT 2;

-- name: operation
SELECT operation.*, sandbox_id, name, pod, namespace, uid
FROM operation JOIN container ON container.id = operation.container_id
WHERE operation.id = :id;

-- name: delivery_ids
SELECT id, hook, state FROM delivery WHERE substr(id, 1, length(:key)) = :key ORDER BY created_at DESC LIMIT :limit;

-- name: container_ids
SELECT id, name, pod FROM container WHERE substr(id, 1, length(:key)) = :key ORDER BY rowid DESC LIMIT :limit;

-- name: oldest_open
SELECT id, state, created_at, next_attempt_at FROM delivery
WHERE state IN ('pending', 'delivering') ORDER BY created_at LIMIT 1;

-- name: newest_time
SELECT max(coalesce((SELECT max(created_at) FROM operation), 0), coalesce((SELECT max(finished_at) FROM operation), 0),
           coalesce((SELECT max(at) FROM event), 0), (SELECT born FROM journal)) AS newest;

-- name: start_handlers
SELECT DISTINCT handler FROM delivery WHERE hook = 'postStart' LIMIT :limit;

-- name: check
PRAGMA quick_check(1);

-- name: where
PRAGMA database_list;
