-- name: unfinished
SELECT delivery.id, delivery.hook, delivery.handler, delivery.state, delivery.interruptions,
       MIN(attempt.began_at) AS first_at,
       MAX(CASE WHEN attempt.number = delivery.attempts AND attempt.ended_at IS NULL THEN attempt.began_at END) AS began_at,
       COALESCE(MIN(attempt.began_at), delivery.retried_at, NULLIF(json_extract(operation.ending, '$.finished_at'), 0.0),
                delivery.created_at) AS due_at
FROM operation
CROSS JOIN delivery ON delivery.operation_id = operation.id
LEFT JOIN attempt ON attempt.delivery_id = delivery.id AND attempt.number > delivery.attempts_before
WHERE operation.state <> 'done' AND delivery.state IN ('armed', 'pending', 'delivering')
GROUP BY delivery.id;
