-- A row for each table and index. Nothing here waits for a table's lock: sizes are those that the last vacuum or analyze noted, and
-- a table's is with its TOAST. Tables are due for a vacuum as autovacuum reckons, by their own setting or the server's.
with relations as (
    select c.oid, c.relkind, t.reltuples, a.amname, (c.relpages + coalesce(toast.relpages, 0))::float8 as pages,
           case when n.nspname = 'pg_catalog' then 'system'
                when n.nspname = 'atoll_reference' then 'reference'
                when n.nspname !~ '^(retired_[0-9]+_)?s[0-9]{4,}_g[0-9]+$' then 'other'
                when t.relname = '_idempotency' then 'tickets'
                else 'entries'
           end as kind,
           pg_stat_get_live_tuples(c.oid) as live,
           pg_stat_get_dead_tuples(c.oid) as dead,
           greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) as vacuumed_at,
           coalesce((select option_value from pg_options_to_table(c.reloptions)
                      where option_name = 'autovacuum_vacuum_scale_factor'),
                    current_setting('autovacuum_vacuum_scale_factor'))::float8 as due_share
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      join pg_am a on a.oid = c.relam
      left join pg_index x on x.indexrelid = c.oid
      join pg_class t on t.oid = coalesce(x.indrelid, c.oid)
      left join pg_class toast on toast.oid = c.reltoastrelid
     where c.relkind in ('r', 'i') and n.nspname !~ '^pg_(toast|temp)' and n.nspname <> 'information_schema'
), judged as (
    select *, relkind = 'r' as is_table,
           dead > current_setting('autovacuum_vacuum_threshold')::float8 + due_share * greatest(reltuples, 0) as is_due
      from relations
)
select oid::bigint as object, kind, amname::text as method,
       pg_stat_get_numscans(oid)::float8 as postgres_scans_total,
       pages * current_setting('block_size')::float8 as postgres_relation_bytes,
       case when is_table then live end::float8 as postgres_live_rows,
       case when is_table then dead end::float8 as postgres_dead_rows,
       case when is_table then is_due::int end::float8 as postgres_vacuum_due_tables,
       -- One that was never vacuumed: since the server started.
       case when is_table and is_due then extract(epoch from now() - coalesce(vacuumed_at, pg_postmaster_start_time()))
            when is_table then 0
       end::float8 as postgres_vacuum_age_seconds
  from judged
