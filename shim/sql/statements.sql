-- name: insert_container
INSERT INTO container (id, sandbox_id, name, pod, namespace, uid)
VALUES (:id, :sandbox_id, :name, :pod, :namespace, :uid)
ON CONFLICT (id) DO NOTHING;

-- name: insert_operation
INSERT INTO operation (id, kind, reason, container_id, state, timeout, deadline, boot_id, created_at, finished_at, error)
VALUES (:id, :kind, :reason, :container_id, :state, :timeout, :deadline, :boot_id, :created_at, :finished_at, :error);

-- name: update_operation
UPDATE operation
SET state = :state, timeout = :timeout, deadline = :deadline, boot_id = :boot_id,
    finished_at = :finished_at, error = :error
WHERE id = :id AND state = :expected;

-- name: insert_delivery
INSERT INTO delivery (id, operation_id, container_id, hook, position, handler, state, attempts, interruptions,
                      error, exit_status, http_status, output, created_at, finished_at)
VALUES (:id, :operation_id, :container_id, :hook, :position, :handler, :state, :attempts, :interruptions,
        :error, :exit_status, :http_status, :output, :created_at, :finished_at);

-- name: update_delivery
UPDATE delivery
SET state = :state, attempts = :attempts, interruptions = :interruptions, error = :error,
    exit_status = :exit_status, http_status = :http_status, output = :output, finished_at = :finished_at
WHERE id = :id AND state = :expected;

-- name: insert_event
INSERT INTO event (at, type, reason, container_id, delivery_id, message)
VALUES (:at, 'Warning', :reason, :container_id, :delivery_id, :message);

-- name: open_operations
SELECT operation.id, kind, reason, state, timeout, deadline, boot_id, created_at, finished_at, error,
       container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM operation JOIN container ON container.id = operation.container_id
WHERE state <> 'done'
ORDER BY operation.created_at, operation.rowid;

-- name: deliveries_of_open_operations
SELECT delivery.*, sandbox_id, name, pod, namespace, uid
FROM delivery
JOIN operation ON operation.id = delivery.operation_id
JOIN container ON container.id = delivery.container_id
WHERE operation.state <> 'done'
ORDER BY delivery.rowid;

-- name: deliveries_of_container
SELECT delivery.*, sandbox_id, name, pod, namespace, uid
FROM delivery JOIN container ON container.id = delivery.container_id
WHERE delivery.container_id = :container_id
ORDER BY delivery.rowid;

-- name: deliveries
SELECT delivery.*, sandbox_id, name, pod, namespace, uid
FROM delivery JOIN container ON container.id = delivery.container_id
ORDER BY delivery.created_at, delivery.rowid;

-- name: events
SELECT at, reason, delivery_id, message, container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM event JOIN container ON container.id = event.container_id
ORDER BY event.id;

-- name: expire_events
DELETE FROM event WHERE delivery_id IN (
    SELECT id FROM delivery WHERE operation_id IN (
        SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit));

-- name: expire_deliveries
DELETE FROM delivery WHERE operation_id IN (
    SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit);

-- name: expire_operations
DELETE FROM operation WHERE id IN (
    SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit);

-- name: expire_containers
DELETE FROM container WHERE NOT EXISTS (SELECT 1 FROM operation WHERE container_id = container.id);

-- name: born
SELECT born FROM journal;
