-- A startup process that waits to look again has replayed all that ever came: it looks everywhere before it waits.
select pg_is_in_recovery() as in_recovery,
       current_setting('primary_conninfo') <> '' or exists (select from pg_stat_wal_receiver) as receives,
       exists (select from pg_stat_wal_receiver where status = 'streaming') as connected,
       current_setting('atoll.follows', true) as follows,
       current_setting('atoll.listed', true) as listed,
       exists (select from pg_stat_activity
                where backend_type = 'startup' and wait_event = 'RecoveryRetrieveRetryInterval') as has_replayed,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end as whole,
       case when pg_is_in_recovery() then pg_last_wal_receive_lsn() end as received,
       to_regclass('atoll.generation') is not null as has_generations
