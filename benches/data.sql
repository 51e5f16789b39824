-- A shop's database for measuring: `psql -v scale=1` gives about 1.15 GB as a plain dump.
-- Text of words, JSON documents, numbers, uuids, bytes that do not compress, and the indexes that such tables have.
SET client_min_messages = warning;
SET synchronous_commit = off;
SET maintenance_work_mem = '512MB';

CREATE FUNCTION words(seed bigint, count int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg((ARRAY['order', 'house', 'yellow', 'quickly', 'between', 'Straße', 'customer', 'delivery', 'paper', 'wooden',
        'please', 'carefully', 'window', 'express', 'return', 'Größe', 'Köln', 'invoice', 'summer', 'battery', 'silver', 'machine',
        'contract', 'bottle', 'garden', 'engine', 'mountain', 'library', 'weather', 'station', 'kitchen', 'picture'])
        [1 + (hashint8(seed * 131 + n) & 31)] || CASE WHEN hashint8(seed + n * 7) % 5 = 0 THEN (hashint8(seed * n) & 4095)::text ELSE '' END, ' ')
    FROM generate_series(1, count) n $$;

CREATE TABLE customers (id bigint, uid uuid, name text, mail text, city text, note text, created timestamptz);
INSERT INTO customers
    SELECT n, md5(n::text)::uuid, words(n, 2), 'c' || n || '@' || (hashint8(n) & 1023) || '.example.org', words(n + 7, 1), words(n * 3, 6),
           timestamptz '2020-01-01' + (hashint8(n) & 134217727) * interval '1 second'
    FROM generate_series(1, 500000 * :scale) n;

CREATE TABLE orders (id bigint, customer bigint, placed timestamptz, state text, total numeric(12, 2), comment text);
INSERT INTO orders
    SELECT n, 1 + abs(hashint8(n)::bigint) % (500000 * :scale), timestamptz '2022-01-01' + n * interval '31 seconds',
           (ARRAY['new', 'paid', 'sent', 'done', 'returned'])[1 + (hashint8(n * 5) & 3)], (hashint8(n * 11) & 1048575) / 100.0,
           CASE WHEN n % 4 = 0 THEN words(n, 4) END
    FROM generate_series(1, 2500000 * :scale) n;

CREATE TABLE order_lines (order_id bigint, number int, item int, amount int, price numeric(10, 2), weight double precision);
INSERT INTO order_lines
    SELECT 1 + n / 3, n % 3, hashint8(n) & 65535, 1 + (hashint8(n * 3) & 7), (hashint8(n * 7) & 262143) / 100.0, sqrt(hashint8(n) & 1048575)
    FROM generate_series(1, 7500000 * :scale) n;

CREATE TABLE documents (id bigint, body jsonb);
INSERT INTO documents
    SELECT n, jsonb_build_object('id', n, 'uid', md5((n * 17)::text), 'title', words(n, 5), 'text', words(n * 13, 45), 'price', (hashint8(n) & 99999) / 100.0,
                                 'tags', jsonb_build_array(words(n, 1), words(n + 1, 1)), 'size', jsonb_build_object('w', hashint8(n) & 255, 'h', hashint8(n * 2) & 255))
    FROM generate_series(1, 450000 * :scale) n;

CREATE TABLE accounts (aid int, bid int, abalance int, filler char(84));
INSERT INTO accounts SELECT n, 1 + n / 100000, 0, '' FROM generate_series(1, 1500000 * :scale) n;

CREATE TABLE pictures (id int, data bytea);
INSERT INTO pictures
    SELECT n, decode(string_agg(md5((n * 1000 + k)::text), ''), 'hex') FROM generate_series(1, 3000 * :scale) n, generate_series(1, 512) k GROUP BY n;

CREATE TABLE events (at timestamptz, session uuid, kind text) PARTITION BY RANGE (at);
SELECT format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)', y, y || '-01-01', (y + 1) || '-01-01')
    FROM generate_series(2020, 2027) y \gexec
INSERT INTO events
    SELECT timestamptz '2020-01-02' + n * interval '90 seconds', md5((n / 20)::text)::uuid, (ARRAY['view', 'click', 'buy'])[1 + n % 3]
    FROM generate_series(1, 1200000 * :scale) n WHERE n < 2500000;

ALTER TABLE customers ADD PRIMARY KEY (id);
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE order_lines ADD PRIMARY KEY (order_id, number);
ALTER TABLE documents ADD PRIMARY KEY (id);
CREATE INDEX ON customers (mail);
CREATE INDEX ON orders (customer);
CREATE INDEX ON order_lines (item);
VACUUM ANALYZE;
