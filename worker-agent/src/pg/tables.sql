-- Nothing here waits for a table's lock.
select c.oid::bigint as oid,
       n.nspname::text as schema,
       c.relname::text as table_name,
       c.reltuples::float8 as estimate,
       coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0) as changes
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_stat_user_tables s on s.relid = c.oid
 where c.relkind = 'r' and c.relname <> '_idempotency' and n.nspname = any ($1)
 order by n.nspname, c.relname
