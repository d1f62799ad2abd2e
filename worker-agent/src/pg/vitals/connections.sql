-- Of clients: background processes have places of their own. Who may not see what others do sees no state of theirs.
select known.state, count(a.pid)::float8 as postgres_connections
  from unnest(array['active', 'idle', 'idle in transaction', 'unknown']) as known (state)
  left join pg_stat_activity a
    on a.backend_type = 'client backend'
   and known.state = case when a.state is null or a.state = 'disabled' then 'unknown'
                          when a.state like 'idle%' then left(a.state, length('idle in transaction'))
                          else 'active'
                     end
 group by 1
