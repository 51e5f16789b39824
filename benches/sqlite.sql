-- The database of the SQLite figures: customers, orders, JSON documents; :scale 1 is about a gigabyte.
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, email TEXT, city TEXT, token TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, at INTEGER, amount REAL, note TEXT);
CREATE TABLE documents (id INTEGER PRIMARY KEY, body TEXT);
CREATE TABLE event (id INTEGER PRIMARY KEY, at REAL, what TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2600000 * :scale)
INSERT INTO customers
SELECT i, 'customer ' || i, 'user' || i || '@example' || (i % 97) || '.org', 'city ' || (i % 1000), hex(randomblob(16)) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 7200000 * :scale)
INSERT INTO orders
SELECT i, 1 + abs(random()) % 2600000, 1700000000 + i * 7, (abs(random()) % 100000) / 100.0,
       CASE i % 5 WHEN 0 THEN 'delivered to the neighbour' ELSE 'order ' || (i % 333) END
FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800000 * :scale)
INSERT INTO documents
SELECT i, json_object('id', i, 'title', 'Document ' || i, 'tags', json_array('a' || (i % 7), 'b' || (i % 11), 'c' || (i % 13)),
       'text', hex(randomblob(60)) || ' lorem ipsum dolor sit amet consectetur ' || (i * 7919) || ' sed do eiusmod tempor '
       || hex(randomblob(40)) || ' ut labore et dolore magna aliqua')
FROM n;
COMMIT;
CREATE INDEX orders_customer ON orders (customer);
CREATE INDEX customers_email ON customers (email);
PRAGMA wal_checkpoint(TRUNCATE);
