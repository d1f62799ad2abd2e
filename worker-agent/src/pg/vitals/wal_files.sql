select coalesce(sum(size), 0)::float8 as postgres_wal_files_bytes from pg_ls_waldir()
