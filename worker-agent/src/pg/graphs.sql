-- Namespaces with a graph of their own: see existing.sql for the predicate.
select substring(pg_get_expr(x.indpred, x.indrelid) from '''([^'']*)''') as namespace
  from pg_index x
  join pg_class i on i.oid = x.indexrelid
  join pg_am a on a.oid = i.relam
 where x.indrelid = $1::bigint::oid and a.amname = 'hnsw'
   and pg_get_expr(x.indpred, x.indrelid) ~ '''[^'']*'''
