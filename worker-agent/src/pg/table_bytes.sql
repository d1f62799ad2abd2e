-- Null for a table that was dropped meanwhile.
select coalesce(pg_total_relation_size($1::bigint::oid::regclass), 0) as bytes,
       coalesce((select sum(pg_relation_size(x.indexrelid))
                   from pg_index x
                   join pg_class i on i.oid = x.indexrelid
                   join pg_am a on a.oid = i.relam
                  where x.indrelid = $1::bigint::oid and a.amname = 'hnsw'), 0)::bigint as vector_index_bytes
