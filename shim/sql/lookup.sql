-- One delivery that the node's owner wants changed, with its operation.

-- name: deliveries_that_begin
-- Those that lie between the key and the key with the last character that there is: the index has them together.
SELECT * FROM delivery_read WHERE id BETWEEN :key AND :key || char(0x10ffff) ORDER BY id <> :key LIMIT 2;

-- name: operation
SELECT operation.*, sandbox_id, name, pod, namespace, uid
FROM operation JOIN container ON container.id = operation.container_id
WHERE operation.id = :id;

-- name: deliveries_of_operation
SELECT * FROM delivery_read WHERE operation_id = :id ORDER BY position, created_at;
