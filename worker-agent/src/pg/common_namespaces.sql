select namespace, (share * $3)::bigint as rows
  from (select unnest(most_common_vals::text::text[]) as namespace, unnest(most_common_freqs)::float8 as share
          from pg_stats
         where schemaname = $1 and tablename = $2 and attname = 'namespace') as common
 where share * $3 >= $4
 order by 2 desc, 1
 limit 1000
