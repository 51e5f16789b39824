-- One more percent of rows in the tables that grow.
INSERT INTO orders
    SELECT m + n, 1 + abs(hashint8(m + n)::bigint) % 500000, timestamptz '2025-01-01' + (m + n) * interval '31 seconds', 'new', (hashint8(n) & 1048575) / 100.0, NULL
    FROM (SELECT max(id) AS m, count(*) AS c FROM orders) x, generate_series(1, c / 100) n;
INSERT INTO order_lines
    SELECT m + n, 0, hashint8(m + n) & 65535, 1 + (hashint8(m + n) & 7), (hashint8(m * n) & 262143) / 100.0, sqrt(hashint8(m + n) & 1048575)
    FROM (SELECT max(order_id) AS m, count(*) AS c FROM order_lines) x, generate_series(1, c / 100) n;
INSERT INTO documents
    SELECT m + n, jsonb_build_object('id', m + n, 'title', words(m + n, 5), 'text', words((m + n) * 13, 45))
    FROM (SELECT max(id) AS m, count(*) AS c FROM documents) x, generate_series(1, c / 100) n;
CHECKPOINT;
