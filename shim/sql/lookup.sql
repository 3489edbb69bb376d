-- One delivery that the node's owner wants changed, with its operation.

-- name: deliveries_that_begin
SELECT * FROM delivery_read WHERE substr(id, 1, length(:key)) = :key ORDER BY id <> :key LIMIT 2;

-- name: operation
SELECT operation.*, sandbox_id, name, pod, namespace, uid
FROM operation JOIN container ON container.id = operation.container_id
WHERE operation.id = :id;

-- name: deliveries_of_operation
SELECT * FROM delivery_read WHERE operation_id = :id ORDER BY position, created_at;
