-- Slots and senders of moves, and all others. Of several the worst.
with here as (
    select case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end as lsn
), slots as (
    select case when slot_name ~ '^(atoll_move_|pg_[0-9]+_sync_)' then 'move' else 'other' end as purpose,
           count(*) as there,
           count(*) filter (where not active) as inactive,
           max(pg_wal_lsn_diff(here.lsn, restart_lsn)) as retained
      from pg_replication_slots cross join here
     group by 1
), senders as (
    select case when application_name ~ '^(atoll_move_|pg_[0-9]+_sync_)' then 'move' else 'other' end as purpose,
           count(*) as there,
           max(pg_wal_lsn_diff(here.lsn, replay_lsn)) as lag_bytes,
           -- Null where nothing is on its way.
           max(extract(epoch from replay_lag)) as lag_seconds
      from pg_stat_replication cross join here
     group by 1
)
select purpose,
       coalesce(slots.there, 0)::float8 as postgres_slots,
       coalesce(slots.inactive, 0)::float8 as postgres_slots_inactive,
       coalesce(slots.retained, 0)::float8 as postgres_slot_retained_bytes,
       coalesce(senders.there, 0)::float8 as postgres_senders,
       coalesce(senders.lag_bytes, 0)::float8 as postgres_replication_lag_bytes,
       coalesce(senders.lag_seconds, 0)::float8 as postgres_replication_lag_seconds
  from (values ('move'), ('other')) as known (purpose)
  left join slots using (purpose)
  left join senders using (purpose)
