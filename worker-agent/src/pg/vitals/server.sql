select extract(epoch from pg_postmaster_start_time())::float8 as postgres_started_at_seconds,
       current_setting('max_connections')::float8 as postgres_connections_max,
       pg_database_size(current_database())::float8 as postgres_database_bytes,
       (select max(age(datfrozenxid)) from pg_database)::float8 as postgres_transaction_id_age,
       (select max(mxid_age(datminmxid)) from pg_database)::float8 as postgres_multixact_id_age,
       (select wal_bytes from pg_stat_wal)::float8 as postgres_wal_bytes_total
