-- The worker's own database, and all others of its server together, with what they share.
select case when datname = current_database() then datname::text else 'others' end as database,
       sum(blks_hit)::float8 as postgres_blocks_hit_total,
       sum(blks_read)::float8 as postgres_blocks_read_total,
       sum(xact_commit)::float8 as postgres_commits_total,
       sum(xact_rollback)::float8 as postgres_rollbacks_total,
       sum(tup_inserted + tup_updated + tup_deleted)::float8 as postgres_rows_written_total,
       sum(deadlocks)::float8 as postgres_deadlocks_total,
       sum(temp_files)::float8 as postgres_temp_files_total,
       sum(temp_bytes)::float8 as postgres_temp_bytes_total
  from pg_stat_database
 group by 1
