-- Cancels what the agent does on table $1, and ends the sessions of role $2 there: one that waits for its client to read
-- hears no cancel.
select case when a.usename = current_user then pg_cancel_backend(a.pid) else pg_terminate_backend(a.pid) end
  from pg_stat_activity a
 where a.pid <> pg_backend_pid()
   and (a.usename = $2::text or a.usename = current_user and a.application_name = 'atoll-agent')
   and exists (select
                 from pg_locks l
                where l.pid = a.pid and l.granted and l.locktype = 'relation' and l.relation = to_regclass($1::text)
                  and l.database = (select oid from pg_database where datname = current_database()))
