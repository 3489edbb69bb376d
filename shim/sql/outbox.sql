-- name: last
SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0) AS last;

-- name: before_since
SELECT MIN(id) - 1 AS place FROM event WHERE at >= :since;

-- name: events_after
SELECT event.id AS event_id, at, reason, delivery_id, message,
       container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM event LEFT JOIN container ON container.id = event.container_id
WHERE event.id > :place
ORDER BY event.id
LIMIT :limit;
