select transactions.oldest as postgres_oldest_transaction_seconds,
       locks.waiting as postgres_locks_waiting,
       locks.longest as postgres_lock_wait_seconds
  from (select coalesce(extract(epoch from max(clock_timestamp() - xact_start)), 0)::float8 as oldest
          from pg_stat_activity
         where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid()) as transactions
 cross join (select count(*)::float8 as waiting,
                    coalesce(extract(epoch from max(clock_timestamp() - waitstart)), 0)::float8 as longest
               from pg_locks
              where not granted) as locks
