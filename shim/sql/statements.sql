-- name: insert_container
INSERT INTO container (id, sandbox_id, name, pod, namespace, uid)
VALUES (:id, :sandbox_id, :name, :pod, :namespace, :uid)
ON CONFLICT (id) DO NOTHING;

-- name: insert_operation
INSERT INTO operation (id, kind, reason, container_id, state, timeout, deadline, boot_id, created_at, forwarded_at,
                       finished_at, error, ending)
VALUES (:id, :kind, :reason, :container_id, :state, :timeout, :deadline, :boot_id, :created_at, :forwarded_at,
        :finished_at, :error, :ending);

-- name: update_operation
UPDATE operation
SET state = :state, timeout = :timeout, deadline = :deadline, boot_id = :boot_id,
    forwarded_at = :forwarded_at, finished_at = :finished_at, error = :error, ending = :ending
WHERE id = :id AND state = :expected;

-- name: insert_delivery
INSERT INTO delivery (id, operation_id, container_id, hook, position, handler, source, state, attempts, interruptions,
                      next_attempt_at, error, exit_status, http_status, output, created_at, finished_at, retried_at,
                      attempts_before)
VALUES (:id, :operation_id, :container_id, :hook, :position, :handler, :source, :state, :attempts, :interruptions,
        :next_attempt_at, :error, :exit_status, :http_status, :output, :created_at, :finished_at, :retried_at,
        :attempts_before);

-- name: update_delivery
UPDATE delivery
SET state = :state, attempts = :attempts, interruptions = :interruptions, next_attempt_at = :next_attempt_at,
    error = :error, exit_status = :exit_status, http_status = :http_status, output = :output,
    finished_at = :finished_at, retried_at = :retried_at, attempts_before = :attempts_before
WHERE id = :id AND state = :expected;

-- name: begin_attempt
INSERT INTO attempt (delivery_id, number, began_at) VALUES (:delivery_id, :number, :at);

-- name: note_execution
UPDATE attempt SET stage = :stage, pid = :pid, pid_started = :pid_started, exit_status = :exit_status
WHERE delivery_id = :delivery_id AND number = :number;

-- name: end_attempt
UPDATE attempt
SET ended_at = :at, error = :error, exit_status = :exit_status, http_status = :http_status, output = :output
WHERE delivery_id = :delivery_id AND number = :number;

-- name: insert_event
INSERT INTO event (at, type, reason, container_id, delivery_id, message)
VALUES (:at, 'Warning', :reason, :container_id, :delivery_id, :message);

-- What is open is found by the index of what is not done, never by reading what is: CROSS JOIN keeps the order.

-- name: open_operations
SELECT operation.id, kind, reason, state, timeout, deadline, boot_id, created_at, forwarded_at, finished_at, error,
       ending, container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM operation CROSS JOIN container ON container.id = operation.container_id
WHERE state <> 'done'
ORDER BY operation.created_at, operation.rowid;

-- name: deliveries_of_open_operations
SELECT delivery_read.*
FROM operation CROSS JOIN delivery_read ON delivery_read.operation_id = operation.id
WHERE operation.state <> 'done'
ORDER BY delivery_read.position, delivery_read.created_at;

-- name: open_operations_of_container
SELECT operation.id, kind, reason, state, timeout, deadline, boot_id, created_at, forwarded_at, finished_at, error,
       ending, container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM operation CROSS JOIN container ON container.id = operation.container_id
WHERE operation.container_id = :container_id AND +state <> 'done'
ORDER BY operation.created_at, operation.rowid;

-- name: deliveries_of_open_operations_of_container
SELECT delivery_read.*
FROM operation CROSS JOIN delivery_read ON delivery_read.operation_id = operation.id
WHERE operation.container_id = :container_id AND +operation.state <> 'done'
ORDER BY delivery_read.position, delivery_read.created_at;

-- name: open_attempts
SELECT delivery.id, delivery.attempts
FROM operation CROSS JOIN delivery ON delivery.operation_id = operation.id
WHERE operation.state <> 'done' AND delivery.state IN ('armed', 'pending', 'delivering');

-- name: executions_of_container
SELECT operation.id, kind, reason, state, timeout, deadline, boot_id, created_at, forwarded_at, finished_at, error,
       ending, container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM operation JOIN container ON container.id = operation.container_id
WHERE container_id = :container_id AND kind = 'exec'
ORDER BY operation.rowid;

-- name: attempts_of_delivery
SELECT number, began_at, ended_at, exit_status, http_status, error, output
FROM attempt WHERE delivery_id = :delivery_id ORDER BY number;

-- name: deliveries_of_container
SELECT * FROM delivery_read WHERE container_id = :container_id ORDER BY created_at, position;

-- name: deliveries
SELECT * FROM delivery_read ORDER BY created_at, position;

-- name: events
SELECT at, reason, delivery_id, message, container.id AS container_id, sandbox_id, name, pod, namespace, uid
FROM event LEFT JOIN container ON container.id = event.container_id
ORDER BY event.id;

-- name: expire_node_events
DELETE FROM event WHERE delivery_id IS NULL AND at < :before;

-- name: expire_events
DELETE FROM event WHERE delivery_id IN (
    SELECT id FROM delivery WHERE operation_id IN (
        SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit));

-- name: expire_attempts
DELETE FROM attempt WHERE delivery_id IN (
    SELECT id FROM delivery WHERE operation_id IN (
        SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit));

-- name: expire_deliveries
DELETE FROM delivery WHERE operation_id IN (
    SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit);

-- name: expire_operations
DELETE FROM operation WHERE id IN (
    SELECT id FROM operation WHERE finished_at < :before ORDER BY finished_at LIMIT :limit)
RETURNING container_id;

-- name: expire_container
DELETE FROM container
WHERE id = :container_id AND NOT EXISTS (SELECT 1 FROM operation WHERE container_id = :container_id);

-- name: born
SELECT born FROM journal;
