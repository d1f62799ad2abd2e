select c.oid::bigint as oid,
       n.nspname::text as schema,
       c.relname::text as table_name,
       c.reltuples::float8 as estimate,
       coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0) as changes,
       -- Null for a table that was dropped since the statement began.
       coalesce(pg_total_relation_size(c.oid), 0) as bytes,
       coalesce((select sum(pg_relation_size(x.indexrelid))
                   from pg_index x
                   join pg_class i on i.oid = x.indexrelid
                   join pg_am a on a.oid = i.relam
                  where x.indrelid = c.oid and a.amname = 'hnsw'), 0)::bigint as vector_index_bytes
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_stat_user_tables s on s.relid = c.oid
 where c.relkind = 'r' and c.relname <> '_idempotency' and n.nspname = any ($1)
 order by n.nspname, c.relname
