select n.nspname::text as schema,
       c.relname::text as table_name,
       c.relpersistence <> 'u' as logged,
       obj_description(c.oid, 'pg_class') as comment,
       -- The only predicate that an agent gives an index is (namespace = '…'::text), and a namespace has no quotes in it.
       (select json_agg(json_build_object('name', i.relname, 'valid', x.indisvalid, 'building', p.pid is not null,
                                          'options', i.reloptions, 'namespace',
                                          substring(pg_get_expr(x.indpred, x.indrelid) from '''([^'']*)''')))::text
          from pg_index x
          join pg_class i on i.oid = x.indexrelid
          join pg_am a on a.oid = i.relam
          left join pg_stat_progress_create_index p on p.datid = (select oid from pg_database where datname = current_database())
                                                   and p.index_relid = x.indexrelid
         where x.indrelid = c.oid and a.amname = 'hnsw') as vector_indexes
  from pg_namespace n
  left join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
 where n.nspname ~ '^s[0-9]{4,}_g[0-9]+$' or n.nspname = 'atoll_reference'
