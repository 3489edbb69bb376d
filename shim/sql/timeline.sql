-- name: counts
SELECT state, count(*) AS number FROM delivery GROUP BY state;

-- name: containers
-- Those that need somebody first, then the newest. The rowid tells the order without reading past the output.
SELECT container.id,
       max(CASE WHEN state IN ('pending', 'delivering') THEN 2 WHEN state IN ('failed', 'missed') THEN 1 ELSE 0 END) AS need,
       max(delivery.rowid) AS latest,
       count(*) OVER () AS total
FROM delivery JOIN container ON container.id = delivery.container_id
WHERE (:hook = '' OR hook = :hook)
  AND (:states = '[]' OR state IN (SELECT value FROM json_each(:states)))
  AND (:pattern = ''
       OR container.pod LIKE :pattern ESCAPE '\' OR container.namespace LIKE :pattern ESCAPE '\'
       OR container.name LIKE :pattern ESCAPE '\' OR container.id LIKE :pattern ESCAPE '\'
       OR container.sandbox_id LIKE :pattern ESCAPE '\' OR container.uid LIKE :pattern ESCAPE '\'
       OR container.namespace || '/' || container.pod LIKE :pattern ESCAPE '\'
       OR delivery.id LIKE :pattern ESCAPE '\')
GROUP BY container.id
ORDER BY need DESC, latest DESC
LIMIT :limit OFFSET :offset;

-- name: refs
SELECT id AS container_id, sandbox_id, name, pod, namespace, uid
FROM container WHERE id IN (SELECT value FROM json_each(:containers));

-- name: operations
SELECT * FROM (
    SELECT operation.*, sandbox_id, name, pod, namespace, uid,
           row_number() OVER (PARTITION BY container_id ORDER BY operation.rowid DESC) AS age
    FROM operation JOIN container ON container.id = container_id
    WHERE container_id IN (SELECT value FROM json_each(:containers)))
WHERE age <= :limit ORDER BY age DESC;

-- name: deliveries
SELECT * FROM (
    SELECT delivery.id, operation_id, container_id, hook, position, handler, source, state, attempts, interruptions,
           next_attempt_at, error, exit_status, http_status, x'' AS output, created_at, finished_at, retried_at,
           attempts_before, NULL AS stage, sandbox_id, name, pod, namespace, uid,
           row_number() OVER (PARTITION BY container_id ORDER BY delivery.rowid DESC) AS age
    FROM delivery JOIN container ON container.id = container_id
    WHERE container_id IN (SELECT value FROM json_each(:containers)))
WHERE age <= :limit ORDER BY age DESC;

-- name: attempts
SELECT * FROM (
    SELECT delivery_id, number, began_at, ended_at, exit_status, http_status, error,
           CASE WHEN :output THEN output ELSE x'' END AS output,
           row_number() OVER (PARTITION BY delivery_id ORDER BY number DESC) AS age
    FROM attempt WHERE delivery_id IN (SELECT value FROM json_each(:deliveries)))
WHERE age <= :limit ORDER BY age DESC;

-- name: container_of
SELECT container_id FROM delivery WHERE id = :delivery_id;

-- name: events
SELECT event.id, at, reason, delivery_id, message, container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM event JOIN container ON container.id = event.container_id
WHERE event.delivery_id IN (SELECT id FROM delivery WHERE container_id = :container_id)
ORDER BY event.id DESC LIMIT :limit;

-- name: node_events
SELECT id, at, reason, message FROM event WHERE container_id IS NULL ORDER BY id DESC LIMIT :limit;
