-- What the sessions $1 do about indexes, and the oldest transaction that each waits for.
select a.pid,
       p.phase,
       coalesce(p.tuples_done, 0) as tuples_done,
       w.pid as waits_pid,
       extract(epoch from clock_timestamp() - w.xact_start)::bigint as waits_seconds,
       coalesce(w.application_name, '') as waits_application
  from unnest($1::int[]) as a (pid)
 -- Once for each session, for it locks out everybody who wants a lock: not for each row below.
 cross join lateral (select pg_blocking_pids(a.pid) as pids) as blocking
  left join pg_stat_progress_create_index p on p.pid = a.pid
  left join lateral (select b.pid, b.xact_start, b.application_name
                       from pg_stat_activity b
                      where b.pid = nullif(p.current_locker_pid, 0) or b.pid = any (blocking.pids)
                      order by b.xact_start
                      limit 1) w on true
