select kinds.reason, null as phase, kinds.done::float8 as postgres_checkpoints_total, null::float8 as postgres_checkpoint_seconds_total
  from pg_stat_checkpointer
 cross join lateral (values ('timed', num_timed), ('requested', num_requested)) as kinds (reason, done)
union all
select null, phases.phase, null, phases.took_ms / 1000
  from pg_stat_checkpointer
 cross join lateral (values ('write', write_time), ('sync', sync_time)) as phases (phase, took_ms)
